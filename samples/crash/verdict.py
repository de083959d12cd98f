"""What a round shows: what ran once, what ran twice, and complaints about what must not have happened.

At least once is the promise for calls of activities: one that was under way when its worker was killed is called again.
Exactly once is the promise for what the history holds: a result that is recorded is never asked for again.
"""

from __future__ import annotations

from collections import Counter

from samples.crash.round import STEPS, Round, Steps
from samples.crash.workflow import height


def calls(seen: Round) -> Counter[tuple[str, int]]:
    """How often each step was begun."""
    return Counter((line.instance_id, line.step) for line in seen.lines if line.fact == "begun")


def twice(seen: Round) -> Steps:
    """The steps that were begun more than once."""
    return {step for step, times in calls(seen).items() if times > 1}


def complaints(seen: Round) -> list[str]:
    """What was lost, or done again although it was recorded. Empty if the engine kept its word."""
    found = []
    for id, result in seen.results.items():
        if result != height(STEPS):
            found.append(f"{id} gave {result} instead of {height(STEPS)}")
        found += _of_history(id, seen.events[id])
    found += _of_ledger(seen)
    return found


def _of_history(id: str, kinds: Counter[str]) -> list[str]:
    wanted = {"activity_scheduled": STEPS, "activity_completed": STEPS, "run_completed": 1}
    return [
        f"{id} has {kinds[kind]} events {kind!r} instead of {count}"
        for kind, count in wanted.items()
        if kinds[kind] != count
    ]


def _of_ledger(seen: Round) -> list[str]:
    begun = calls(seen)
    ended = {(line.instance_id, line.step) for line in seen.lines if line.fact == "ended"}
    tokens: dict[str, set[str]] = {}
    for line in seen.lines:
        tokens.setdefault(line.instance_id, set()).add(line.token)
    return [
        *(
            f"{id}: step {n} never ended"
            for id in seen.results
            for n in range(1, STEPS + 1)
            if (id, n) not in ended
        ),
        *(f"{id}: step {n} was called again, though recorded" for id, n in seen.recorded & twice(seen)),
        *(
            f"{id}: step {n} was called {times} times for one kill"
            for (id, n), times in begun.items()
            if times > 2
        ),
        *(f"{id} was another run after the kill" for id, found in tokens.items() if len(found) > 1),
    ]
