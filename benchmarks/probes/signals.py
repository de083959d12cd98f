"""W8: 1,000 instances that wait for signals, and 100 signals a second to them in turn.

Latency: from before ``signal()`` to the workflow's next line, by the real clock.
"""

from __future__ import annotations

import asyncio
import time

import durable
from benchmarks import loops
from benchmarks.probes.reading import Reading, lateness, real_counter, until
from benchmarks.stores import Store

TITLE = "100 signals a second to 1,000 instances"
STORES = ("memory", "sqlite", "postgres", "mysql")
ROUNDS = 1
INSTANCES, QUICK_INSTANCES = 1_000, 50
SECONDS, QUICK_SECONDS = 10.0, 1.0
PER_SECOND = 100
PATIENCE_SECONDS = 120.0

tick: durable.Signal[float] = durable.Signal("tick", float)
_waits: list[float] = []


@durable.workflow
async def listener() -> None:
    """Hears for ever."""
    while True:
        sent = await tick.receive()
        _waits.append(real_counter() - sent)


def run(url: str, store: Store, quick: bool) -> list[Reading]:
    """See `Probe`."""
    instances, seconds = (QUICK_INSTANCES, QUICK_SECONDS) if quick else (INSTANCES, SECONDS)
    return loops.run(_measure(url, instances, round(seconds * PER_SECOND)))


async def _measure(url: str, instances: int, signals: int) -> list[Reading]:
    _waits.clear()
    async with (
        asyncio.timeout(PATIENCE_SECONDS),
        durable.connect(url) as client,
        durable.Worker(client, (listener,)),
        asyncio.TaskGroup() as tasks,
    ):
        waiting = [await client.create_instance(listener) for _ in range(instances)]
        await asyncio.sleep(0.5)  # the last of them waits, too
        began, cpu_began = time.perf_counter(), time.process_time()
        for number in range(signals):
            await asyncio.sleep(max(0.0, began + number / PER_SECOND - time.perf_counter()))
            instance = waiting[number % instances]
            tasks.create_task(instance.signal(tick, time.perf_counter()))
        await until(lambda: len(_waits) >= signals)
        seconds, cpu = time.perf_counter() - began, time.process_time() - cpu_began
    return [
        Reading(name="heard", value=signals / seconds, unit="signals/s", aim=f"{PER_SECOND}"),
        *lateness(_waits, "signal to workflow"),
        Reading(name="CPU a signal", value=cpu / signals * 1e6, unit="µs"),
    ]
