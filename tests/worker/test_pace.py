"""How often a worker looks for work, where nobody tells it of any."""

from __future__ import annotations

import pytest

from durable.worker.claims import AGAIN_SECONDS, Pace


def test_it_looks_again_soon_after_it_has_found_something() -> None:
    pace = Pace(1.0, hears_others=False)
    assert pace.after(0) == 1.0, "an idle worker asks no more than before"
    assert pace.after(3) == AGAIN_SECONDS
    waits = [pace.after(0) for _ in range(8)]
    assert waits == pytest.approx([0.04, 0.08, 0.16, 0.32, 0.64, 1.0, 1.0, 1.0])
    assert pace.after(1) == AGAIN_SECONDS


def test_where_the_bell_rings_for_others_there_is_no_need() -> None:
    pace = Pace(1.0, hears_others=True)
    assert [pace.after(found) for found in (0, 5, 0)] == [1.0, 1.0, 1.0]


def test_never_longer_than_the_poll_interval() -> None:
    pace = Pace(0.005, hears_others=False)
    assert [pace.after(found) for found in (0, 5, 0, 0)] == [0.005] * 4
