from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import types
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

import durable
from durable.client.client import Client
from tests.worker.stores import Store, connected, until


@pytest.fixture
async def ends() -> AsyncIterator[tuple[Client, Store]]:
    async with connected() as both:
        yield both


def activity_and_workflow(body: Any, **options: Any) -> tuple[Any, Any]:
    activity = durable.activity(**options)(body)

    @durable.workflow
    async def one() -> Any:
        return await activity()

    return activity, one


# --- what a worker takes --------------------------------------------------------------------------------------------


async def test_two_definitions_of_one_name(ends: tuple[Client, Store]) -> None:
    @durable.workflow(name="same")
    async def first() -> None: ...

    @durable.workflow(name="same")
    async def second() -> None: ...

    @durable.workflow(name="same", version="2")
    async def newer() -> None: ...

    with pytest.raises(ValueError, match=r"'same'.*test_worker"):
        durable.Worker(ends[0], [first, second])
    durable.Worker(ends[0], [first, first, newer])


@pytest.mark.parametrize(
    ("definitions", "options", "error"),
    [
        ([len], {}, TypeError),
        ([types.ModuleType("empty")], {}, TypeError),
        ([], {"queues": "default"}, TypeError),
        ([], {"queues": []}, ValueError),
        ([], {"max_activities": 0}, ValueError),
        ([], {"cache_size": -1}, ValueError),
        ([], {"lease": 0}, ValueError),
    ],
)
async def test_odd_arguments(ends: tuple[Client, Store], definitions: Any, options: Any, error: Any) -> None:
    with pytest.raises(error):
        durable.Worker(ends[0], definitions, **options)


async def test_a_module_is_scanned(ends: tuple[Client, Store]) -> None:
    async def give() -> int:
        return 3

    activity, one = activity_and_workflow(give)
    module = types.ModuleType("shop")
    vars(module).update(give=activity, one=one, other=7)
    async with durable.Worker(ends[0], [module]):
        assert await (await ends[0].create_instance(one)).result(timeout=5) == 3


async def test_a_worker_serves_its_queues_only(ends: tuple[Client, Store]) -> None:
    client, store = ends
    where: list[str] = []

    async def look() -> None:
        where.append(durable.activity_info().queue)

    activity, one = activity_and_workflow(look)
    instance = await client.create_instance(one, queue="eu")
    async with durable.Worker(client, [one, activity]):
        await until(lambda: store.calls.count("claim_workflow_tasks") > 1)
        assert (await instance.describe()).history_length == 1
        async with durable.Worker(client, [one, activity], queues=["eu"]):
            await instance.result(timeout=5)
    assert where == ["eu"], "an activity without a queue of its own gets the caller's"


async def test_a_worker_is_used_once_at_a_time(ends: tuple[Client, Store]) -> None:
    worker = durable.Worker(ends[0], [])
    async with worker:
        with pytest.raises(RuntimeError, match="runs already"):
            await worker.run()


async def test_no_more_attempts_than_slots(ends: tuple[Client, Store]) -> None:
    running: list[int] = [0, 0]

    async def count() -> None:
        running[0] += 1
        running[1] = max(running)
        await asyncio.sleep(0.002)
        running[0] -= 1

    activity = durable.activity(count)

    @durable.workflow
    async def many() -> None:
        await asyncio.gather(*(activity() for _ in range(12)))

    async with durable.Worker(ends[0], [many, activity], max_activities=3):
        await (await ends[0].create_instance(many)).result(timeout=5)
    assert running == [0, 3]


# --- closing --------------------------------------------------------------------------------------------------------


async def test_closing_waits_for_what_runs(ends: tuple[Client, Store]) -> None:
    client, _ = ends
    begun, go = asyncio.Event(), asyncio.Event()

    async def slow() -> str:
        begun.set()
        await go.wait()
        return "done"

    activity, one = activity_and_workflow(slow)
    async with durable.Worker(client, [one, activity]):
        instance = await client.create_instance(one)
        await begun.wait()
        asyncio.get_running_loop().call_later(0.01, go.set)
    assert (await instance.describe()).state == "completed"


async def test_an_attempt_interrupted_by_closing_is_no_attempt_and_is_given_back(
    ends: tuple[Client, Store],
) -> None:
    client, _ = ends
    begun = asyncio.Event()
    attempts: list[int] = []

    async def slow() -> str:
        attempts.append(durable.activity_info().attempt)
        begun.set()
        if len(attempts) == 1:
            await asyncio.Event().wait()
        return "done"

    activity, one = activity_and_workflow(slow, retry=durable.Retry(max_attempts=1))
    async with durable.Worker(client, [one, activity], shutdown_timeout=0):
        instance = await client.create_instance(one)
        await begun.wait()
    async with durable.Worker(client, [one, activity]):  # at once: no lease has to run out first
        assert await instance.result(timeout=5) == "done"
    assert attempts == [1, 1]


@pytest.mark.parametrize("stubborn", [False, True])
async def test_closing_is_bounded_although_the_store_is_gone_and_activities_ignore_it(
    ends: tuple[Client, Store], stubborn: bool
) -> None:
    client, store = ends
    begun, release = asyncio.Event(), asyncio.Event()

    async def slow() -> None:
        begun.set()
        while stubborn and not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue
        await release.wait()

    async def gone(method: Any, *args: Any) -> Any:
        raise durable.BackendError("gone")

    activity, one = activity_and_workflow(slow)
    worker = durable.Worker(client, [one, activity], shutdown_timeout=0.1)
    await worker.__aenter__()
    await client.create_instance(one)
    await begun.wait()
    store.hooks |= dict.fromkeys(("release", "commit", "finish_activities", "extend"), gone)
    async with asyncio.timeout(4):
        await worker.__aexit__(None, None, None)
    store.hooks.clear()
    release.set()


PROGRAM = """
import asyncio, sys, durable

@durable.activity(retry=durable.Retry(max_attempts=1))
async def slow() -> None:
    print("begun", flush=True)
    await asyncio.Event().wait()

@durable.workflow
async def one() -> None:
    await slow()

async def main():
    async with durable.connect("memory://") as client:
        await client.create_instance(one, id="i")
        await durable.Worker(client, [one, slow], shutdown_timeout=0).run()
        described = await client.get_instance("i").describe()
        stats = await client.stats()
        from durable.backends.records import Claimant
        claimant = Claimant(worker_id="w", token="t", lease_us=1, queues=("default",), activities=("slow",))
        task = (await client.store.claim_activity_tasks(claimant, 1)).items[0]
        print(described.state, task.attempt, task.deliveries, flush=True)

asyncio.run(main())
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains_and_gives_everything_back(number: int) -> None:
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-c", PROGRAM],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "begun\n"
        os.kill(process.pid, number)
        out, err = process.communicate(timeout=20)
    finally:
        process.kill()
    assert (out, process.returncode) == ("running 1 1\n", 0), err


# --- the leases of runs ---------------------------------------------------------------------------------------------


async def has_rows(client: Client) -> bool:
    return bool((await client.stats()).activity_tasks)


async def test_a_worker_that_dies_is_replaced_when_its_lease_runs_out(ends: tuple[Client, Store]) -> None:
    client, store = ends
    begun = asyncio.Event()
    seen: list[int] = []

    async def slow() -> int:
        seen.append(durable.activity_info().attempt)
        begun.set()
        if len(seen) == 1:
            await asyncio.Event().wait()
        return len(seen)

    async def dead(method: Any, *args: Any) -> Any:
        await asyncio.Event().wait()

    activity, one = activity_and_workflow(slow, retry=durable.Retry(max_attempts=1))
    first = durable.Worker(client, [one, activity], shutdown_timeout=0)
    await first.__aenter__()
    instance = await client.create_instance(one)
    await begun.wait()
    await until(lambda: has_rows(client))  # written later, it would be leased from then on
    store.hooks["extend"] = dead
    for claimer in first._claimers:
        claimer.cancel()
    async with durable.Worker(client, [one, activity]):
        store.skip(14)
        await asyncio.sleep(0.03)
        assert seen == [1], "the lease has not run out"
        store.skip(2)
        assert await instance.result(timeout=5) == 2
    assert seen == [1, 1], "a worker that dies is no attempt of yours"
    del store.hooks["extend"]
    await first.__aexit__(None, None, None)


async def test_an_activity_that_outlives_ten_workers_fails_with_worker_lost(
    ends: tuple[Client, Store],
) -> None:
    client, store = ends
    begun: list[int] = []

    async def kills() -> None:
        begun.append(1)
        await asyncio.Event().wait()

    async def dead(method: Any, *args: Any) -> Any:
        await asyncio.Event().wait()

    activity, one = activity_and_workflow(kills)
    store.hooks["extend"] = dead
    workers = []
    async with durable.Worker(client, [one]):
        instance = await client.create_instance(one)
        for number in range(11):
            worker = durable.Worker(client, [activity], shutdown_timeout=0)
            workers.append(worker)
            await worker.__aenter__()
            if number < 10:
                await until(lambda n=number: len(begun) == n + 1)
                worker._claimers[1].cancel()  # it is dead: it claims nothing
                worker._claimers[0].cancel()
            store.skip(16)
        with pytest.raises(durable.WorkflowFailed) as caught:
            await instance.result(timeout=5)
        assert isinstance(caught.value.__cause__, durable.WorkerLost)
        assert len(begun) == 10
    del store.hooks["extend"]
    for worker in workers:
        await worker.__aexit__(None, None, None)


async def test_a_worker_that_closes_while_it_answers_questions_says_nothing(
    ends: tuple[Client, Store],
) -> None:
    complaints: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    async with durable.Worker(ends[0], []) as worker:
        answering = asyncio.ensure_future(worker._questions._answer([]))
        await asyncio.sleep(0)
        answering.cancel()
        await asyncio.wait([answering])
        await asyncio.sleep(0)
    assert complaints == []
