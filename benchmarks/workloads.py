"""What is run. A workload is a workflow, how many of them, and how many at a time.

The activities do nothing that takes time: what is measured is the engine, not somebody's work.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any

import durable

STEPS = 10
WIDTH = 100


@durable.activity
async def add_one(number: int) -> int:
    """The activity of all workloads."""
    return number + 1


@durable.workflow
async def one_activity(number: int) -> int:
    """W1, W1K and W4."""
    return await add_one(number)


@durable.workflow
async def ten_in_sequence(number: int) -> int:
    """W2: each activity needs the result of the one before."""
    for _ in range(STEPS):
        number = await add_one(number)
    return number


@durable.workflow
async def fan_out(number: int) -> int:
    """W3: all at once; the result is their sum."""
    return sum(await asyncio.gather(*(add_one(number + n) for n in range(WIDTH))))


DEFINITIONS = (add_one, one_activity, ten_in_sequence, fan_out)
"""What the worker is given."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """``workflows`` in a round, ``in_flight`` of them at a time; ``expected`` checks what comes out."""

    name: str
    title: str
    workflow: Any
    expected: Callable[[int], int]
    activities: int
    workflows: int
    quick_workflows: int
    in_flight: int

    def count(self, quick: bool) -> int:
        """How many workflows a round has."""
        return self.quick_workflows if quick else self.workflows


W1 = Workload(
    name="W1",
    title="one activity, 100 in flight",
    workflow=one_activity,
    expected=lambda number: number + 1,
    activities=1,
    workflows=2_000,
    quick_workflows=60,
    in_flight=100,
)
W1K = replace(W1, name="W1K", title="one activity, 1,000 in flight", workflows=5_000, in_flight=1_000)
W2 = Workload(
    name="W2",
    title="ten activities in sequence, 25 in flight",
    workflow=ten_in_sequence,
    expected=lambda number: number + STEPS,
    activities=STEPS,
    workflows=250,
    quick_workflows=8,
    in_flight=25,
)
W3 = Workload(
    name="W3",
    title="a fan-out of 100 activities, 4 in flight",
    workflow=fan_out,
    expected=lambda number: WIDTH * (number + 1) + sum(range(WIDTH)),
    activities=WIDTH,
    workflows=24,
    quick_workflows=2,
    in_flight=4,
)
W4 = Workload(
    name="W4",
    title="one activity, one at a time",
    workflow=one_activity,
    expected=lambda number: number + 1,
    activities=1,
    workflows=200,
    quick_workflows=8,
    in_flight=1,
)
WORKLOADS = {workload.name: workload for workload in (W1, W1K, W2, W3, W4)}

Run = Callable[[int], Awaitable[int]]
"""Number of the workflow -> its result."""


async def drive(
    workload: Workload,
    run: Run,
    count: int,
    *,
    in_flight: int | None = None,
    done: Callable[[], None] = lambda: None,
) -> list[float]:
    """Run so many workflows; the seconds that each took. ``done`` is called after each.

    Raises ``ValueError`` when a result is wrong: a figure for work that was not done is worth nothing.
    """
    seconds: list[float] = []
    numbers = iter(range(count))

    async def lane() -> None:
        for number in numbers:
            began = time.perf_counter()
            result = await run(number)
            seconds.append(time.perf_counter() - began)
            if result != workload.expected(number):
                raise ValueError(f"{workload.name} number {number} gave {result}")
            done()

    async with asyncio.TaskGroup() as lanes:
        for _ in range(in_flight or workload.in_flight):
            lanes.create_task(lane())
    return seconds
