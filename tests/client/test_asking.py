"""Queries and updates while the store does not answer for a moment: they wait for it, as every other call does."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

import durable
from durable.client import Client
from durable.errors import BackendError
from tests.worker.stores import Store, connected

GO = durable.Signal("go", int)


@durable.workflow
async def counts() -> int:
    total = 0

    @durable.query
    def so_far() -> int:
        return total

    @durable.update
    async def add(number: int) -> int:
        nonlocal total
        total += number
        return total

    return await GO.receive()


@pytest.fixture
async def both() -> AsyncIterator[tuple[Client, Store]]:
    async with connected() as found:
        yield found


def silent(store: Store, call: str) -> None:
    """The first call is not answered, and nobody knows whether it was done."""

    async def lost(real: Any, items: Any) -> Any:
        del store.hooks[call]
        await real(items)
        raise BackendError("the server went away")

    store.hooks[call] = lost


@pytest.mark.parametrize("call", ["ask", "replies"])
async def test_a_query_outlives_a_lost_reply(both: tuple[Client, Store], call: str) -> None:
    client, store = both
    async with durable.Worker(client, [counts]):
        instance = await client.create_instance(counts)
        silent(store, call)
        assert await instance.query("so_far", timeout=10) == 0


@pytest.mark.parametrize("call", ["send", "get", "replies"])
async def test_an_update_outlives_a_lost_reply_and_is_done_once(
    both: tuple[Client, Store], call: str
) -> None:
    """Who gave no key could not have sent it again."""
    client, store = both
    async with durable.Worker(client, [counts]):
        instance = await client.create_instance(counts)
        silent(store, call)
        assert await instance.update("add", 2, timeout=10) == 2
        assert await instance.query("so_far", timeout=10) == 2
