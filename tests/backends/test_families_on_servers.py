"""The audit of families asks several questions, each of which sees another moment."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from durable.backends.sql.server.families import CLOSED, FAMILIES, audit_families

ENDED = ("parent", "run", "completed", 2)
CHILDLESS = ("parent", "run", "running", 0)


class Moments:
    """A session. ``later``: what there is of the family when it is asked about once more."""

    def __init__(self, parent: tuple[str, str, str, int], later: Sequence[tuple[str, str, int]]) -> None:
        self.parent = parent
        self.families = [[("parent", "run", 2)], later]

    async def fetch(self, sql: str) -> Any:
        assert sql == FAMILIES
        return self.families.pop(0)

    async def fetch_wanted(self, sql: str, wanted: Any) -> Any:
        if sql == CLOSED:
            return []
        parent, self.parent = self.parent, ("other", "run", "running", 1)
        return [parent]


@pytest.mark.parametrize("parent", [ENDED, CHILDLESS])
async def test_children_that_were_closed_meanwhile_are_no_finding(parent: tuple[str, str, str, int]) -> None:
    moments: Any = Moments(parent, [])
    assert await audit_families(moments, None) == []


@pytest.mark.parametrize("parent", [ENDED, CHILDLESS])
async def test_children_that_nobody_closes_are_one(parent: tuple[str, str, str, int]) -> None:
    moments: Any = Moments(parent, [("parent", "run", 2)])
    assert [one.instance_id for one in await audit_families(moments, None)] == ["parent"]
