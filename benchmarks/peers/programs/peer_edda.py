"""Edda: one process, activities named by hand where they run side by side."""

# ruff: noqa: D103
from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from typing import Any

from edda import EddaApp, WorkflowContext, activity, sleep, workflow
from job import HOUR_SECONDS, JOB, STEPS, WIDTH, measure, measure_starts


@activity
async def add_one(ctx: WorkflowContext, number: int) -> int:
    return number + 1


@workflow
async def one_activity(ctx: WorkflowContext, number: int) -> int:
    return await add_one(ctx, number)


@workflow
async def ten_in_sequence(ctx: WorkflowContext, number: int) -> int:
    for _ in range(STEPS):
        number = await add_one(ctx, number)
    return number


@workflow
async def fan_out(ctx: WorkflowContext, number: int) -> int:
    return sum(
        await asyncio.gather(*(add_one(ctx, number + n, activity_id=f"add_one:{n}") for n in range(WIDTH)))
    )


sleeping: list[int] = []


@workflow
async def sleeper(ctx: WorkflowContext) -> None:
    sleeping.append(1)
    await sleep(ctx, HOUR_SECONDS)


async def asleep() -> int:
    return len(sleeping)


WORKFLOWS: dict[str, Any] = {"W1": one_activity, "W2": ten_in_sequence, "W3": fan_out, "W4": one_activity}


def url() -> str:
    given: str = JOB["url"]
    if given.startswith("sqlite"):
        with contextlib.closing(sqlite3.connect(given.removeprefix("sqlite:///"))) as db:
            db.execute("PRAGMA journal_mode = WAL")
        return given
    return given.replace("postgresql://", "postgresql+asyncpg://")


async def main() -> None:
    app = EddaApp(service_name="bench", db_url=url(), pool_size=30, max_overflow=40)
    await app.initialize()
    if JOB["workload"] == "W5":
        await measure_starts(sleeper.start, asleep)
    work = WORKFLOWS[JOB["workload"]]

    async def run(number: int) -> Any:
        instance_id = await work.start(number=number)
        while True:
            found = await app.storage.get_instance(instance_id)
            if found["status"] == "completed":
                return found["output_data"]["result"]
            if found["status"] in ("failed", "cancelled"):
                raise RuntimeError(found)
            await asyncio.sleep(0.01)

    await measure(run)
    await app.shutdown()


asyncio.run(main())
