"""W6: a worker is killed (SIGKILL) in step 1,900 of 2,000, another takes over. Time from the lease's end to done.

The lease is shortened to some seconds, so that the probe is over soon; its end is read from the store's table after
the kill. A time below zero would mean that the store knew of the death earlier.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import sys
import time
from contextlib import closing

import durable
from benchmarks import loops
from benchmarks.engine import make_store
from benchmarks.probes.reading import Reading
from benchmarks.stores import Store
from durable.backends.mysql.address import parse_url
from durable.backends.mysql.driver import connect as connect_mysql

TITLE = "a worker killed in step 1,900 of 2,000"
STORES = ("sqlite", "postgres", "mysql")
STEPS, KILLED_AT = 2_000, 1_900
QUICK_STEPS, QUICK_KILLED_AT = 60, 50
LEASE_SECONDS = 3.0
PATIENCE_SECONDS = 120.0
_SQL = "SELECT MAX(lease_until_us) FROM {}instances WHERE state = 'running'"

_kill_at = -1


@durable.activity
async def step(number: int) -> int:
    """One of many; in the victim, one of them is its last."""
    if number == _kill_at:
        os.kill(os.getpid(), signal.SIGKILL)
    return number + 1


@durable.workflow
async def many_steps(steps: int) -> int:
    """Steps in sequence."""
    number = 0
    while number < steps:
        number = await step(number)
    return number


def run(url: str, store: Store, quick: bool) -> list[Reading]:
    """See `Probe`."""
    steps, killed_at = (QUICK_STEPS, QUICK_KILLED_AT) if quick else (STEPS, KILLED_AT)
    make_store(url)
    return loops.run(_measure(url, steps, killed_at))


async def _measure(url: str, steps: int, killed_at: int) -> list[Reading]:
    async with asyncio.timeout(PATIENCE_SECONDS), durable.connect(url) as client:
        instance = await client.create_instance(many_steps, steps)
        command = (sys.executable, "-m", "benchmarks.probes.recovery", url, str(killed_at))
        victim = await asyncio.create_subprocess_exec(*command)
        code = await victim.wait()
        killed = time.time()
        if code != -signal.SIGKILL:
            raise RuntimeError(f"the victim was to be killed, and ended with {code}")
        lease_end = await _lease_end(url)
        async with durable.Worker(client, (step, many_steps), lease=LEASE_SECONDS):
            if await instance.result() != steps:
                raise ValueError("a step is missing")
            done = time.time()
    return [
        Reading(name="from the lease's end to done", value=done - lease_end, unit="s", aim="<= 0.5"),
        Reading(name=f"from the kill to done (lease {LEASE_SECONDS:g} s)", value=done - killed, unit="s"),
    ]


async def _lease_end(url: str) -> float:
    """By the server's clock, which is this machine's."""
    if url.startswith("sqlite"):
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as db:
            (found,) = db.execute(_SQL.format("")).fetchone()
    elif url.startswith("postgres"):
        import asyncpg

        connection = await asyncpg.connect(url)
        found = await connection.fetchval(_SQL.format(""))
        await connection.close()
    else:
        link = await connect_mysql(parse_url(url))
        ((found,),) = (await link.run(_SQL.format("").encode()))[0].rows
        await link.close()
    return int(found) / 1e6


async def _be_killed(url: str) -> None:
    async with durable.connect(url) as client:
        await durable.Worker(client, (step, many_steps), lease=LEASE_SECONDS).run()


if __name__ == "__main__":
    _kill_at = int(sys.argv[2])
    asyncio.run(_be_killed(sys.argv[1]))
