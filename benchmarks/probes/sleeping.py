"""W5: so many workflows asleep for an hour, and a thousand among them that wake one after the other.

Start rate: from the first ``create_instance`` to the last of them asleep. Memory: what the process grew by, through
their number, when all are warm (``cache_size`` is their number) and when all are evicted (``cache_size=0``). The
latter has what the client and the store keep for an instance, and what the allocator does not give back; on SQLite also
the pages of the database that its connections keep, 32 MiB each at most, which are told apart. Lateness: from the time
that the alarm was set for to the workflow's next line, by the real clock.
"""

from __future__ import annotations

import _sqlite3
import asyncio
import ctypes
import gc
import os
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import durable
from benchmarks import loops
from benchmarks.probes.reading import Reading, lateness, real_time, until
from benchmarks.stores import Store

TITLE = "sleeping workflows: start rate, memory, lateness of waking"
STORES = ("memory", "sqlite", "postgres", "mysql")
ROUNDS = 1
COUNT, QUICK_COUNT = 5_000, 200
ALARMS_PER_SECOND = 100
AT_ONCE = 100
HOUR_SECONDS = 3600.0
PATIENCE_SECONDS = 240.0

_asleep: list[int] = []
_late: list[float] = []


@durable.workflow
async def sleeper() -> None:
    """Sleeps, and is left behind."""
    _asleep.append(1)
    await durable.sleep(HOUR_SECONDS)


@durable.workflow
async def alarm(due: float) -> None:
    """Says how late it was."""
    await durable.sleep(due - durable.now().timestamp())
    _late.append(real_time() - due)


def run(url: str, store: Store, quick: bool) -> list[Reading]:
    """See `Probe`."""
    return measure(url, store, QUICK_COUNT if quick else COUNT)


def measure(url: str, store: Store, count: int) -> list[Reading]:
    """With so many asleep."""
    found = loops.run(_measure(url, count, cache_size=count + 100, alarms=min(count, 1_000)))
    with store.new() as another:
        evicted = loops.run(_measure(another, count, cache_size=0, alarms=0))
    return found + [one for one in evicted if "memory" in one.name]


async def _measure(url: str, count: int, *, cache_size: int, alarms: int) -> list[Reading]:
    _asleep.clear()
    _late.clear()
    async with (
        asyncio.timeout(PATIENCE_SECONDS),
        durable.connect(url) as client,
        durable.Worker(client, (sleeper, alarm), cache_size=cache_size),
    ):
        await client.create_instance(sleeper)
        await until(lambda: len(_asleep) >= 1)
        before, pages_before, began = _memory_bytes(), _page_bytes(), time.perf_counter()
        await _at_once(count, lambda _: client.create_instance(sleeper))
        await until(lambda: len(_asleep) > count)
        seconds = time.perf_counter() - began
        await asyncio.sleep(1.0)  # what was said last is written down
        memory, pages = _memory_bytes() - before, _page_bytes() - pages_before
        first = time.time() + 1.0 + alarms / 400
        await _at_once(
            alarms, lambda number: client.create_instance(alarm, first + number / ALARMS_PER_SECOND)
        )
        await until(lambda: len(_late) == alarms)
    readings = [
        Reading(name=f"{count:,} starts", value=count / seconds, unit="wf/s"),
        *_memory(memory / count, pages / count, "warm" if cache_size else "evicted"),
    ]
    return readings + (lateness(_late, "woken late", ("<= 15", "<= 100")) if alarms else [])


def _memory(memory: float, pages: float, what: str) -> list[Reading]:
    name = f"memory of an instance, {what}"
    if what == "warm":
        return [Reading(name=name, value=memory / 1024, unit="KB", aim="<= 6")]
    return [
        Reading(name=name, value=memory / 1024, unit="KB"),
        Reading(name=f"{name}, without pages", value=(memory - pages) / 1024, unit="KB", aim="0"),
    ]


async def _at_once(count: int, make: Callable[[int], Awaitable[object]]) -> None:
    numbers = iter(range(count))

    async def lane() -> None:
        for number in numbers:
            await make(number)

    async with asyncio.TaskGroup() as lanes:
        for _ in range(AT_ONCE):
            lanes.create_task(lane())


def _memory_bytes() -> int:
    gc.collect()
    if sys.platform == "linux":
        ctypes.CDLL(None).malloc_trim(0)  # what is free goes back, or it would be counted
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _page_bytes() -> int:
    """What SQLite has taken for itself: pages of the database, above all."""
    try:
        library = ctypes.CDLL(_sqlite3.__file__)
        library.sqlite3_memory_used.restype = ctypes.c_int64
        return int(library.sqlite3_memory_used())
    except (AttributeError, OSError):  # it is a part of the interpreter here
        return 0
