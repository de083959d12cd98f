"""This project: one process, one client, one worker, the defaults of both."""

# ruff: noqa: D103
from __future__ import annotations

import asyncio

import durable
from benchmarks.peers.programs.job import JOB, measure
from benchmarks.workloads import DEFINITIONS, WORKLOADS


async def main() -> None:
    workflow = WORKLOADS[JOB["workload"]].workflow
    async with durable.connect(JOB["url"]) as client, durable.Worker(client, DEFINITIONS):

        async def run(number: int) -> int:
            instance = await client.create_instance(workflow, number)
            return int(await instance.result())

        await measure(run)


asyncio.run(main())
