"""A row that somebody else holds for a moment is waited for by every call of a client: it is never taken for done."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import asyncpg
import pytest

import durable
from durable.backends.records import Busy
from durable.backends.sql.server.store import ServerStore
from durable.client import Client
from tests.worker.stores import Store, connected, until


@durable.activity
async def step() -> str:
    return "done"


@durable.workflow
async def stepping() -> str:
    return await step()


@pytest.fixture
async def both() -> AsyncIterator[tuple[Client, Store]]:
    async with connected() as found:
        yield found


def held_twice(store: Store, call: str) -> None:
    """The next two calls find that somebody holds the rows: they write nothing."""
    answers = [Busy(), Busy()]

    async def busy(real: Any, items: Any) -> Any:
        answer = await real([] if answers else items)
        return replace(answer, items=[answers.pop()]) if answers else answer

    store.hooks[call] = busy


async def test_a_delete_waits_for_who_holds_the_instance(both: tuple[Client, Store]) -> None:
    client, store = both
    instance = await client.create_instance(stepping)
    await instance.terminate()
    held_twice(store, "delete")
    await instance.delete()
    with pytest.raises(durable.InstanceNotFound):
        await instance.describe()


async def test_a_fork_schedules_its_activities_when_they_can_be_had(both: tuple[Client, Store]) -> None:
    client, store = both
    async with durable.Worker(client, [stepping, step]):
        original = await client.create_instance(stepping)
        assert await original.result(timeout=10) == "done"
        at = next(one.number for one in await original.history() if one.kind == "activity_scheduled")
    held_twice(store, "commit")
    fork = await original.fork(at)
    store.hooks.clear()
    async with durable.Worker(client, [stepping, step]):
        assert await fork.result(timeout=10) == "done"
    assert await client.audit() == []


@asynccontextmanager
async def held(url: str, instance_id: str) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """Somebody's transaction holds the instance, until it is let go or the block ends."""
    other = await asyncpg.connect(url)
    try:
        transaction = other.transaction()
        await transaction.start()
        await other.execute("SELECT 1 FROM instances WHERE instance_id = $1 FOR UPDATE", instance_id)
        yield transaction.rollback
    finally:
        await other.close()


async def test_a_delete_waits_for_a_transaction_on_the_server(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    plain = ServerStore.delete

    async def counted(store: ServerStore, refs: Any) -> Any:
        asked.append(1)
        return await plain(store, refs)

    monkeypatch.setattr(ServerStore, "delete", counted)
    async with durable.connect(postgres_url) as client:
        instance = await client.create_instance(stepping)
        await instance.terminate()
        async with held(postgres_url, instance.id) as let_go, asyncio.TaskGroup() as tasks:
            tasks.create_task(instance.delete())
            await until(lambda: len(asked) > 2, "a second and a third try")
            await let_go()
        with pytest.raises(durable.InstanceNotFound):
            await instance.describe()


@pytest.mark.parametrize("batch", [1, 2, 100])
async def test_a_purge_passes_over_what_is_held(postgres_url: str, batch: int) -> None:
    """Also over a batch that is held from its first to its last."""
    async with durable.connect(postgres_url) as client:
        instances = [await client.create_instance(stepping) for _ in range(5)]
        for instance in instances:
            await instance.terminate()
        async with held(postgres_url, instances[0].id), held(postgres_url, instances[1].id):
            assert await client.purge(older_than=0, batch=batch) == 3
            assert await client.purge(older_than=0, batch=batch) == 0
        assert await client.purge(older_than=0, batch=batch) == 2


@pytest.mark.parametrize("batch", [0, -1, True, 1.5])
async def test_a_purge_of_no_batch_at_all_is_refused(both: tuple[Client, Store], batch: Any) -> None:
    """And not told as a purge that found nothing."""
    client, store = both
    with pytest.raises(ValueError, match="batch is a whole number of at least 1"):
        await client.purge(older_than=0, batch=batch)
    assert "purge" not in store.calls
