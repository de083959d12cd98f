"""The crash sample: a round with a real kill, and its verdict, which must be able to say no."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from samples.crash import round as rounds
from samples.crash import verdict
from samples.crash.ledger import Line
from samples.crash.workflow import height


async def test_a_killed_worker_loses_nothing_and_repeats_only_what_was_under_way(tmp_path: Path) -> None:
    seen = await rounds.play(tmp_path, random.Random(1))
    assert verdict.complaints(seen) == []
    assert seen.killed_pid in {line.pid for line in seen.lines}
    assert len({line.pid for line in seen.lines}) == 2, "the second worker did something, too"
    assert len(seen.recorded) < rounds.WORKFLOWS * rounds.STEPS, "the kill came in the middle"


def _line(fact: str, step: int, token: str = "t", pid: int = 1) -> Line:
    return Line(fact=fact, instance_id="climb-1", step=step, token=token, pid=pid)


GOOD = rounds.Round(
    lines=[_line(fact, step) for step in range(1, rounds.STEPS + 1) for fact in ("begun", "ended")],
    recorded={("climb-1", 1)},
    events={
        "climb-1": Counter(activity_scheduled=rounds.STEPS, activity_completed=rounds.STEPS, run_completed=1)
    },
    results={"climb-1": height(rounds.STEPS)},
    killed_pid=1,
    gap_seconds=1.0,
)
REPEATED = [*GOOD.lines, _line("begun", 2), _line("ended", 2)]


def test_a_good_round_has_no_complaints() -> None:
    assert verdict.complaints(GOOD) == []
    assert verdict.twice(GOOD) == set()


def test_what_was_under_way_may_run_twice() -> None:
    seen = replace(GOOD, lines=REPEATED)
    assert verdict.complaints(seen) == []
    assert verdict.twice(seen) == {("climb-1", 2)}


@pytest.mark.parametrize(
    ("seen", "words"),
    [
        (replace(GOOD, results={"climb-1": 7}), "gave 7 instead of"),
        (replace(GOOD, lines=GOOD.lines[:-1]), "step 8 never ended"),
        (replace(GOOD, lines=REPEATED, recorded={("climb-1", 2)}), "called again, though recorded"),
        (replace(GOOD, lines=[*REPEATED, _line("begun", 2)]), "called 3 times for one kill"),
        (replace(GOOD, lines=[*GOOD.lines, _line("begun", 2, token="other")]), "another run after the kill"),
        (replace(GOOD, events={"climb-1": GOOD.events["climb-1"] + Counter(run_completed=1)}), "2 events"),
        (
            replace(GOOD, events={"climb-1": GOOD.events["climb-1"] + Counter(activity_completed=1)}),
            "9 events",
        ),
    ],
)
def test_a_bad_round_has_a_complaint(seen: rounds.Round, words: str) -> None:
    assert any(words in complaint for complaint in verdict.complaints(seen))
