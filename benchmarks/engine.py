"""A workload on the engine: one process, one client, one worker, the defaults of both, a new store each time."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import durable
from benchmarks.workloads import DEFINITIONS, Workload, drive

STORES = ("memory", "sqlite")
WARM_UP_WORKFLOWS = 5
ROUND_SECONDS = 300.0
"""A round that takes longer than this has come to a halt, and is an error instead of a figure."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One round. ``cpu_seconds`` is the whole process with its threads; ``latencies`` are seconds, one a workflow."""

    seconds: float
    cpu_seconds: float
    latencies: tuple[float, ...]


class Stopwatch:
    """What `timed` gives: readings are there when its block has ended."""

    seconds = 0.0
    cpu_seconds = 0.0


@contextmanager
def timed() -> Iterator[Stopwatch]:
    """Wall and CPU time of a block."""
    watch = Stopwatch()
    began, cpu_began = time.perf_counter(), time.process_time()
    yield watch
    watch.seconds = time.perf_counter() - began
    watch.cpu_seconds = time.process_time() - cpu_began


def settle_garbage() -> None:
    """Before each round: garbage of the round before is not this one's cost, nor is looking through what stays."""
    gc.unfreeze()
    gc.collect()
    gc.freeze()


def url_of(store: str, directory: Path) -> str:
    """Where a new store of this kind is. ``directory`` must be empty."""
    if store == "memory":
        return "memory://"
    return f"sqlite:///{directory.resolve()}/engine.db"


def measure_engine(
    workload: Workload,
    url: str,
    count: int,
    *,
    in_flight: int | None = None,
    begin: Callable[[], None] = lambda: None,
    done: Callable[[], None] = lambda: None,
) -> Measured:
    """One round. ``begin`` is called when the warm-up is over, ``done`` after each workflow."""
    return asyncio.run(_measure(workload, url, count, in_flight, begin, done))


async def _measure(
    workload: Workload,
    url: str,
    count: int,
    in_flight: int | None,
    begin: Callable[[], None],
    done: Callable[[], None],
) -> Measured:
    async with (
        asyncio.timeout(ROUND_SECONDS),
        durable.connect(url) as client,
        durable.Worker(client, DEFINITIONS),
    ):

        async def run(number: int) -> int:
            instance = await client.create_instance(workload.workflow, number)
            return int(await instance.result())

        await drive(workload, run, WARM_UP_WORKFLOWS)
        settle_garbage()
        begin()
        with timed() as watch:
            latencies = await drive(workload, run, count, in_flight=in_flight, done=done)
    return Measured(seconds=watch.seconds, cpu_seconds=watch.cpu_seconds, latencies=tuple(latencies))
