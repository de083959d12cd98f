"""Client and worker on uvloop. Workflows have a loop of their own, so this is about all that is around them."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest

import durable

uvloop = pytest.importorskip("uvloop")

PATIENCE_SECONDS = 40.0
go: durable.Signal[int] = durable.Signal("go", int)


@durable.activity
async def on_the_loop(number: int) -> int:
    assert type(asyncio.get_running_loop()).__module__.startswith("uvloop")
    await asyncio.sleep(0)
    return number + 1


@durable.activity
def in_a_thread(number: int) -> int:
    assert threading.current_thread() is not threading.main_thread()
    time.sleep(0)
    return number + 10


@durable.activity(executor="process")
def in_a_process(number: int) -> int:
    return os.getpid() + number


@durable.workflow
async def by_a_process() -> int:
    return await in_a_process(0)


@durable.workflow
async def child(number: int) -> int:
    return await in_a_thread(number)


@durable.workflow
async def all_kinds() -> int:
    found = sum(await asyncio.gather(*(on_the_loop(number) for number in range(5))))
    async with asyncio.timeout(PATIENCE_SECONDS):
        found += await go.receive()
    await durable.sleep(0.01)
    return found + await child(100)


DEFINITIONS = (on_the_loop, in_a_thread, in_a_process, by_a_process, child, all_kinds)


def _run(main: Any) -> Any:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(asyncio.wait_for(main, PATIENCE_SECONDS))


async def _workflow(url: str) -> int:
    # One client starts and another, with a worker, works: what comes through the store comes through the loop, too.
    async with (
        durable.connect(url) as client,
        durable.connect(url) as other,
        durable.Worker(other, DEFINITIONS),
    ):
        instance = await client.create_instance(all_kinds)
        await instance.signal(go, 1_000)
        return int(await instance.result())


EXPECTED = sum(range(1, 6)) + 1_000 + 110


def test_memory() -> None:
    async def main() -> int:
        async with durable.connect("memory://") as client, durable.Worker(client, DEFINITIONS):
            instance = await client.create_instance(all_kinds)
            await instance.signal(go, 1_000)
            return int(await instance.result())

    assert _run(main()) == EXPECTED


def test_sqlite(tmp_path: Path) -> None:
    assert _run(_workflow(f"sqlite:///{tmp_path}/uvloop.db")) == EXPECTED


def test_postgres(postgres_url: str) -> None:
    assert _run(_workflow(postgres_url)) == EXPECTED


@pytest.mark.parametrize("driver", ["aiomysql", "asyncmy"])
def test_mysql(mysql_url: str, driver: str) -> None:
    pytest.importorskip(driver)
    assert _run(_workflow(f"{mysql_url}?driver={driver}")) == EXPECTED


def test_an_activity_in_a_process_of_its_own() -> None:
    async def main() -> int:
        async with durable.connect("memory://") as client, durable.Worker(client, DEFINITIONS):
            return int(await (await client.create_instance(by_a_process)).result())

    assert _run(main()) != os.getpid()


def test_a_signal_ends_a_worker(tmp_path: Path) -> None:
    async def main() -> str:
        async with durable.connect(f"sqlite:///{tmp_path}/uvloop.db") as client:
            instance = await client.create_instance(child, 1)
            working = asyncio.create_task(durable.Worker(client, DEFINITIONS).run())
            assert await instance.result() == 11
            os.kill(os.getpid(), signal.SIGTERM)
            await working
        return "drained"

    assert _run(main()) == "drained"
