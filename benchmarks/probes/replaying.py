"""How long it takes to replay 10,000 events that are not in memory, against what ``orjson`` needs to parse them.

Both begin with the stored lines. It is the worker's own replay: decoded, checked and run through the workflow's code,
without the comparison of arguments that the replayer of tests makes.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import orjson

import durable
from benchmarks import loops
from benchmarks.measured import settle_garbage
from benchmarks.probes.reading import Reading
from benchmarks.stores import Store
from benchmarks.workloads import add_one
from durable.core import guards
from durable.core.context import RunIdentity
from durable.core.failure import known_exceptions
from durable.core.history import decode_history
from durable.core.payload import Converter
from durable.core.replay import load

TITLE = "cold replay of 10,000 events, against orjson's parsing"
STORES = ("memory",)
EVENTS, QUICK_EVENTS = 10_000, 100
TRIES = 5
PATIENCE_SECONDS = 100.0


@durable.workflow
async def recorded(steps: int) -> int:
    """Steps in sequence."""
    number = 0
    while number < steps:
        number = await add_one(number)
    return number


def run(url: str, store: Store, quick: bool) -> list[Reading]:
    """See `Probe`."""
    events = QUICK_EVENTS if quick else EVENTS
    lines = loops.run(_history(url, events // 2))
    parse = _best(lambda: [orjson.loads(line) for line in lines])
    replay = _best(lambda: _replay(lines))
    return [
        Reading(name=f"replay of {len(lines):,} events", value=replay * 1e3, unit="ms"),
        Reading(name="orjson alone", value=parse * 1e3, unit="ms"),
        Reading(name="replay against orjson", value=replay / parse, unit="x", aim="<= 15"),
    ]


async def _history(url: str, steps: int) -> list[bytes]:
    async with (
        asyncio.timeout(PATIENCE_SECONDS),
        durable.connect(url) as client,
        durable.Worker(client, (recorded, add_one)),
    ):
        instance = await client.create_instance(recorded, steps)
        await instance.result()
        return (await client.export_history(instance.id)).encode().splitlines()[1:]


def _replay(lines: list[bytes]) -> None:
    converter = Converter()
    run = load(
        recorded.definition,
        RunIdentity(instance_id="replayed", run_id="replayed", first_run_id="replayed", parent=None),
        decode_history(lines),
        converter=converter,
        known=known_exceptions(),
    )
    run.drop()


def _best(work: Callable[[], object]) -> float:
    guards.install()
    seconds = []
    for _ in range(TRIES):
        settle_garbage()
        began = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began)
    return min(seconds)
