"""W7: trees of child workflows: fan-out 5, depth 3, two activities a leaf; 156 instances and 250 activities each."""

from __future__ import annotations

import asyncio
import time

import durable
from benchmarks import loops
from benchmarks.probes.reading import Reading
from benchmarks.stores import Store
from benchmarks.workloads import add_one

TITLE = "trees of child workflows, fan-out 5, depth 3, two at a time"
STORES = ("memory", "sqlite", "postgres", "mysql")
FAN_OUT, DEPTH = 5, 3
LEAVES = FAN_OUT**DEPTH
INSTANCES = sum(FAN_OUT**level for level in range(DEPTH + 1))
TREES, AT_ONCE = 4, 2
PATIENCE_SECONDS = 120.0


@durable.workflow
async def node(depth: int) -> int:
    """The sum of its children; a leaf is its two activities."""
    if depth == 0:
        return await add_one(await add_one(0))
    return sum(await asyncio.gather(*(node(depth - 1) for _ in range(FAN_OUT))))


def run(url: str, store: Store, quick: bool) -> list[Reading]:
    """See `Probe`."""
    return loops.run(_measure(url, AT_ONCE if quick else TREES))


async def _measure(url: str, trees: int) -> list[Reading]:
    async with (
        asyncio.timeout(PATIENCE_SECONDS),
        durable.connect(url) as client,
        durable.Worker(client, (node, add_one)),
    ):
        numbers = iter(range(trees))

        async def lane() -> None:
            for _ in numbers:
                instance = await client.create_instance(node, DEPTH)
                if await instance.result() != 2 * LEAVES:
                    raise ValueError("a leaf is missing")

        began, cpu_began = time.perf_counter(), time.process_time()
        await asyncio.gather(*(lane() for _ in range(AT_ONCE)))
        seconds, cpu = time.perf_counter() - began, time.process_time() - cpu_began
    return [
        Reading(name="instances", value=trees * INSTANCES / seconds, unit="wf/s"),
        Reading(name="CPU an instance", value=cpu / trees / INSTANCES * 1e6, unit="µs"),
    ]
