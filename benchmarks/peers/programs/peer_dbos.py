"""DBOS: workflows and steps are called directly, its fastest mode: they are durable, and no queue is in between."""

# ruff: noqa: D103
from __future__ import annotations

import asyncio
import contextlib
import sqlite3

from dbos import DBOS
from job import HOUR_SECONDS, JOB, STEPS, WIDTH, measure, measure_starts


@DBOS.step()
async def add_one(number: int) -> int:
    return number + 1


@DBOS.workflow()
async def one_activity(number: int) -> int:
    return await add_one(number)


@DBOS.workflow()
async def ten_in_sequence(number: int) -> int:
    for _ in range(STEPS):
        number = await add_one(number)
    return number


@DBOS.workflow()
async def fan_out(number: int) -> int:
    return sum(await asyncio.gather(*(add_one(number + n) for n in range(WIDTH))))


sleeping: list[int] = []


@DBOS.workflow()
async def sleeper() -> None:
    sleeping.append(1)
    await DBOS.sleep_async(HOUR_SECONDS)


async def asleep() -> int:
    return len(sleeping)


WORKFLOWS = {"W1": one_activity, "W2": ten_in_sequence, "W3": fan_out, "W4": one_activity}


def url() -> str:
    given: str = JOB["url"]
    if given.startswith("sqlite"):
        # Kept in the file. Without it DBOS runs on a rollback journal, which is slower.
        with contextlib.closing(sqlite3.connect(given.removeprefix("sqlite:///"))) as db:
            db.execute("PRAGMA journal_mode = WAL")
        return given
    return given.replace("postgresql://", "postgresql+psycopg://")


async def main() -> None:
    DBOS(
        config={
            "name": "bench",
            "system_database_url": url(),
            "sys_db_pool_size": max(20, JOB["in_flight"] + 5),
            "log_level": "ERROR",
        }
    )
    DBOS.launch()
    if JOB["workload"] == "W5":
        await measure_starts(lambda: DBOS.start_workflow_async(sleeper), asleep)
    await measure(WORKFLOWS[JOB["workload"]])
    DBOS.destroy()


asyncio.run(main())
