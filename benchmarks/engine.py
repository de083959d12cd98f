"""A workload on the engine: one process, one client, one worker, the defaults of both, a new store each time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import durable
from benchmarks import loops
from benchmarks.measured import Measured, settle_garbage, timed
from benchmarks.workloads import DEFINITIONS, Workload, drive

WARM_UP_WORKFLOWS = 5
ROUND_SECONDS = 300.0
"""A round that takes longer than this has come to a halt, and is an error instead of a figure."""


def make_store(url: str) -> None:
    """Make the tables of a new store."""
    loops.run(_make_store(url))


async def _make_store(url: str) -> None:
    async with durable.connect(url):
        pass


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
    return loops.run(_measure(workload, url, count, in_flight, begin, done))


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
