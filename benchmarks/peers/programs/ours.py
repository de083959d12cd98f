"""This project: one process, one client, one worker, the defaults of both."""

# ruff: noqa: D103
from __future__ import annotations

import asyncio

import durable
from benchmarks.peers.programs.job import HOUR_SECONDS, JOB, measure, measure_starts
from benchmarks.workloads import DEFINITIONS, WORKLOADS

sleeping: list[int] = []


@durable.workflow
async def sleeper() -> None:
    sleeping.append(1)
    await durable.sleep(HOUR_SECONDS)


async def starts() -> None:
    async with durable.connect(JOB["url"]) as client, durable.Worker(client, (sleeper,)):

        async def asleep() -> int:
            return len(sleeping)

        await measure_starts(lambda: client.create_instance(sleeper), asleep)


async def main() -> None:
    if JOB["workload"] == "W5":
        await starts()
    workflow = WORKLOADS[JOB["workload"]].workflow
    async with durable.connect(JOB["url"]) as client, durable.Worker(client, DEFINITIONS):

        async def run(number: int) -> int:
            instance = await client.create_instance(workflow, number)
            return int(await instance.result())

        await measure(run)


asyncio.run(main())
