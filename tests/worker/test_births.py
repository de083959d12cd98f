"""Instances that the worker's own client starts: begun without a claim, and by nobody else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

import durable
from durable.backends.records import NewInstance, WorkflowTask
from durable.client.client import Client
from tests.worker.stores import Store, connected, until

go: durable.Signal[int] = durable.Signal("go", int)


@durable.workflow
async def waits() -> int:
    return await go.receive()


@durable.workflow
async def returns() -> str:
    return durable.info().instance_id


@durable.workflow(timeout=60.0)
async def limited() -> str:
    return "in time"


class Watched:
    """``claimed`` are the instances that a claim has handed out, ``created`` what the store was asked to make."""

    def __init__(self, store: Store) -> None:
        self.claimed: list[str] = []
        self.created: list[NewInstance] = []
        store.hooks |= {"claim_workflow_tasks": self._claim, "create": self._create}

    async def _claim(self, method: Any, *args: Any) -> Any:
        answer = await method(*args)
        self.claimed += [one.instance_id for one in answer.items if isinstance(one, WorkflowTask)]
        return answer

    async def _create(self, method: Any, instances: Any) -> Any:
        self.created += instances
        return await method(instances)


@pytest.fixture
async def ends() -> AsyncIterator[tuple[Client, Store, Watched]]:
    async with connected() as (client, store):
        yield client, store, Watched(store)


async def test_it_is_begun_without_a_claim(ends: tuple[Client, Store, Watched]) -> None:
    client, _, watched = ends
    async with durable.Worker(client, [returns]):
        assert await (await client.create_instance(returns, id="a")).result(timeout=5) == "a"
    assert watched.claimed == []


async def test_what_comes_later_is_claimed_by_the_same_worker(ends: tuple[Client, Store, Watched]) -> None:
    client, store, watched = ends
    async with durable.Worker(client, [waits], name="w"):
        instance = await client.create_instance(waits, id="a")
        await instance.signal(go, 3)
        assert await instance.result(timeout=5) == 3
    assert store.real._tables.instances["a"].current.claims == 0
    assert len(watched.claimed) <= 1


async def test_another_workers_code_and_queue_are_left_to_it(ends: tuple[Client, Store, Watched]) -> None:
    client, _, watched = ends
    async with durable.Worker(client, [returns]):
        await client.create_instance(waits, id="other code")
        await client.create_instance(returns, id="other queue", queue="far")
        await client.create_instance(returns, id="other version", version="2")
    assert [one.lease for one in watched.created] == [None] * 3


async def test_what_is_delayed_limited_or_has_messages_is_claimed(
    ends: tuple[Client, Store, Watched],
) -> None:
    client, _, watched = ends
    async with durable.Worker(client, [returns, limited, waits]):
        soon = datetime.now(UTC) + timedelta(milliseconds=30)
        late = await client.create_instance(returns, start_at=soon)
        short = await client.create_instance(limited)
        told = await client.signal_with_start(waits, id="told", signal=go, value=4)
        assert await late.result(timeout=5) == late.id
        assert await short.result(timeout=5) == "in time"
        assert await told.result(timeout=5) == 4
    assert set(watched.claimed) == {late.id, short.id, told.id}
    assert [one.lease for one in watched.created] == [None] * 3


async def test_beyond_its_room_others_may_have_them(ends: tuple[Client, Store, Watched]) -> None:
    client, _, watched = ends
    async with durable.Worker(client, [returns], max_workflow_tasks=3):
        instances = await asyncio.gather(*(client.create_instance(returns) for _ in range(8)))
        for instance in instances:
            assert await instance.result(timeout=5) == instance.id
    assert sum(one.lease is not None for one in watched.created) == 3


async def test_a_caller_that_does_not_wait_takes_nothing_back(ends: tuple[Client, Store, Watched]) -> None:
    client, store, watched = ends
    entered, through = asyncio.Event(), asyncio.Event()

    async def create(method: Any, instances: Any) -> Any:
        entered.set()
        await through.wait()
        return await method(instances)

    store.hooks["create"] = create
    async with durable.Worker(client, [returns], name="w"):
        asking = asyncio.ensure_future(client.create_instance(returns, id="a"))
        await entered.wait()
        asking.cancel()
        await asyncio.wait([asking])
        through.set()
        await until(lambda: "a" in store.real._tables.instances, "the start")
        assert await client.get_instance("a").result(timeout=5) == "a"
    assert watched.claimed == []


async def test_a_worker_that_closes_meanwhile_gives_it_back(ends: tuple[Client, Store, Watched]) -> None:
    client, store, watched = ends
    entered, through = asyncio.Event(), asyncio.Event()

    async def create(method: Any, instances: Any) -> Any:
        entered.set()
        await through.wait()
        return await method(instances)

    store.hooks["create"] = create
    async with durable.Worker(client, [returns]):
        asking = asyncio.ensure_future(client.create_instance(returns, id="a"))
        await entered.wait()
    through.set()
    instance = await asking
    async with durable.Worker(client, [returns]):
        assert await instance.result(timeout=5) == "a"
    assert watched.claimed == ["a"]


async def test_id_that_is_taken_is_told_as_ever(ends: tuple[Client, Store, Watched]) -> None:
    client, _, _ = ends
    async with durable.Worker(client, [waits], max_workflow_tasks=1):
        first = await client.create_instance(waits, id="a")
        for _ in range(3):
            with pytest.raises(durable.InstanceAlreadyExists):
                await client.create_instance(waits, id="a")
        await first.signal(go, 1)
        assert await first.result(timeout=5) == 1
        again = await client.create_instance(waits, id="a")
        await again.signal(go, 2)
        assert await again.result(timeout=5) == 2
