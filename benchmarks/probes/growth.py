"""W9: what a step costs when the history is long. One workflow of activities in sequence, two events each.

The CPU time of the process between one activity and the next, at 100, 1,000 and 10,000 events: medians of the steps
around there. The ratios are taken of the CPU time too, for it does not depend on the disk.
"""

from __future__ import annotations

import asyncio
import itertools
import statistics
import time

import durable
from benchmarks import loops
from benchmarks.probes.reading import Reading
from benchmarks.stores import Store

TITLE = "cost per step at 100, 1,000 and 10,000 events"
STORES = ("memory", "sqlite", "postgres", "mysql")
ROUNDS = 1
EVENTS = (100, 1_000, 10_000)
QUICK_EVENTS = (20, 40, 80)
AROUND = 0.2
PATIENCE_SECONDS = 200.0

_cpu: list[float] = []
_wall: list[float] = []


@durable.activity
async def noted(number: int) -> int:
    """A step that looks at the clocks."""
    _cpu.append(time.process_time())
    _wall.append(time.perf_counter())
    return number + 1


@durable.workflow
async def long_history(steps: int) -> int:
    """Steps in sequence."""
    number = 0
    while number < steps:
        number = await noted(number)
    return number


def run(url: str, store: Store, quick: bool) -> list[Reading]:
    """See `Probe`."""
    events = QUICK_EVENTS if quick else EVENTS
    loops.run(_run(url, events[-1] // 2))
    cpu = [_cost(_cpu, at) for at in events]
    wall = [_cost(_wall, at) for at in events]
    readings = [
        Reading(name=f"CPU a step at {at:,} events", value=cost * 1e6, unit="µs")
        for at, cost in zip(events, cpu, strict=True)
    ]
    return [
        *readings,
        Reading(name="CPU, last against first", value=cpu[-1] / cpu[0], unit="x", aim="<= 1.1"),
        Reading(name="time, last against first", value=wall[-1] / wall[0], unit="x", aim="<= 1.1"),
    ]


async def _run(url: str, steps: int) -> None:
    _cpu.clear()
    _wall.clear()
    async with (
        asyncio.timeout(PATIENCE_SECONDS),
        durable.connect(url) as client,
        durable.Worker(client, (noted, long_history)),
    ):
        instance = await client.create_instance(long_history, steps)
        if await instance.result() != steps:
            raise ValueError("a step is missing")


def _cost(clock: list[float], events: int) -> float:
    """Of the steps around this length; the last ones where there are no more."""
    middle, half = events // 2, max(5, int(events / 2 * AROUND))
    first = max(1, min(middle, len(clock) - half) - half)
    some = clock[first - 1 : first + 2 * half]
    return statistics.median(after - before for before, after in itertools.pairwise(some))
