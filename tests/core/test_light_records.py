from __future__ import annotations

from dataclasses import fields, replace

import pytest

from durable.core.light_records import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    x: int
    name: str = ""


def test_they_are_equal_hashed_and_changed_like_any_frozen_dataclass() -> None:
    point = Point(x=1)
    assert point == Point(x=1) != Point(x=2)
    assert {point: "here"}[Point(x=1)] == "here"
    assert replace(point, name="a") == Point(x=1, name="a")
    assert [one.name for one in fields(Point)] == ["x", "name"]
    assert repr(point) == "Point(x=1, name='')"


def test_they_have_no_other_fields() -> None:
    with pytest.raises(AttributeError):
        Point(x=1).y = 2  # type: ignore[attr-defined]
    with pytest.raises(TypeError):
        Point(1)  # type: ignore[misc]
