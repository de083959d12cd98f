"""The worker's own audit: in a loop, by one worker at a time, that no trouble ends."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest

import durable
from durable.backends.memory import MemoryStore
from durable.client.client import Client
from durable.errors import BackendError
from durable.worker import upkeep
from tests.worker.stores import Store, connected, until


@durable.activity(queue="later")
async def charge(cents: int) -> int:
    return cents


@durable.workflow
async def buys(cents: int) -> int:
    return await charge(cents)


@durable.workflow
async def hears() -> None:
    await durable.Signal("go", int).receive()


@durable.workflow
async def has_a_child() -> None:
    await hears.options(id="kid")()


@pytest.fixture
async def both(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[Client, Store]]:
    monkeypatch.setattr(upkeep, "AUDIT_EVERY_SECONDS", 0.01)
    monkeypatch.setattr(upkeep, "AUDIT_PAGE_SECONDS", 0.0)
    async with connected() as found:
        yield found


def lose_activity(store: Store, instance_id: str) -> None:
    assert isinstance(store.real, MemoryStore)
    tables = store.real._tables
    for row in list(tables.instances[instance_id].current.activities.values()):
        tables.drop_activity(row)


async def waits_for_its_activity(client: Client, store: Store) -> durable.Instance[int]:
    instance = await client.create_instance(buys, 7, id="a")
    async with durable.Worker(client, [buys, charge]):
        await until(lambda: _has_activity(client), "the activity")
    assert store.real is not None
    return instance


async def _has_activity(client: Client) -> bool:
    return (await client.stats()).activity_tasks.get("later") == 1


async def test_a_worker_puts_back_what_was_lost(
    both: tuple[Client, Store], caplog: pytest.LogCaptureFixture
) -> None:
    client, store = both
    instance = await waits_for_its_activity(client, store)
    lose_activity(store, "a")
    async with durable.Worker(client, [buys, charge], queues=["default", "later"]):
        assert await instance.result(timeout=5) == 7
    assert "the audit found: I7" in caplog.text and "scheduled again" in caplog.text


async def test_who_has_not_the_role_looks_at_nothing(both: tuple[Client, Store]) -> None:
    client, store = both
    asked = 0

    async def held_by_another(real: Any, role: str, worker_id: str, lease_us: int) -> bool:
        nonlocal asked
        asked += role == "audit"
        return False

    store.hooks["hold_role"] = held_by_another
    async with durable.Worker(client, [buys, charge]):
        await until(lambda: asked > 3, "asking for the role")
    assert "find" not in store.calls


async def test_of_two_workers_one_has_the_role(both: tuple[Client, Store]) -> None:
    client, store = both
    holders: set[str] = set()
    asked: set[str] = set()

    async def watched(real: Any, role: str, worker_id: str, lease_us: int) -> Any:
        held = await real(role, worker_id, 60_000_000)
        asked.add(worker_id)
        if held:
            holders.add(worker_id)
        return held

    store.hooks["hold_role"] = watched
    async with durable.Worker(client, [buys, charge]), durable.Worker(client, [buys, charge]):
        await until(lambda: len(asked) == 2, "both asking")
    assert len(holders) == 1


@pytest.mark.parametrize("error", [BackendError("the store is away"), KeyError("a mistake of ours")])
async def test_no_trouble_ends_the_loop(
    both: tuple[Client, Store], error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    client, store = both
    instance = await waits_for_its_activity(client, store)
    lose_activity(store, "a")
    left = [error, error]

    async def fails(real: Any, *args: Any) -> Any:
        if left:
            raise left.pop()
        return await real(*args)

    store.hooks["holdings"] = fails
    async with durable.Worker(client, [buys, charge], queues=["default", "later"]):
        assert await instance.result(timeout=5) == 7
    assert not left
    assert [one.levelno >= logging.ERROR for one in caplog.records if "audit " in one.message][:2] == (
        [isinstance(error, KeyError)] * 2
    )


async def test_what_cannot_be_mended_is_told_once(
    both: tuple[Client, Store], caplog: pytest.LogCaptureFixture
) -> None:
    client, store = both
    async with durable.Worker(client, [has_a_child, hears]):
        parent = await client.create_instance(has_a_child, id="a")
        await until(lambda: _runs(client, "kid"), "the child")
        assert isinstance(store.real, MemoryStore)
        del store.real._tables.instances["kid"]
        await until(lambda: "neither the child" in caplog.text, "the finding")
        looks = store.calls.count("find")
        await until(lambda: store.calls.count("find") > looks + 3, "three more audits")
        await parent.terminate()
    assert caplog.text.count("neither the child") == 1


async def _runs(client: Client, name: str) -> bool:
    page = await client.list_instances()
    lengths = {one.id: one.history_length for one in page.items}
    return name in lengths and lengths["a"] >= 3
