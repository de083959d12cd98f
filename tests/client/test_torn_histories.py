"""A history of which something lacks is never shown, kept or forked as if it were whole."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import Any

import orjson
import pytest

import durable
from durable.client import Client
from durable.errors import BackendError
from tests.worker.stores import Store, connected

GO = durable.Signal("go", int)


@durable.workflow
async def adds() -> int:
    return sum([await GO.receive() for _ in range(2)])


@pytest.fixture
async def both() -> AsyncIterator[tuple[Client, Store, durable.Instance[int]]]:
    async with connected() as (client, store):
        instance = await client.create_instance(adds, id="a")
        async with durable.Worker(client, [adds]):
            await instance.signal(GO, 1)
            await instance.signal(GO, 2)
            assert await instance.result(timeout=10) == 3
        yield client, store, instance


def torn(store: Store, left: int) -> None:
    async def read(real: Any, ranges: Any) -> Any:
        answer = await real(ranges)
        return replace(answer, items=[replace(one, events=one.events[:left]) for one in answer.items])

    store.hooks["read_history"] = read


def _ways(client: Client, instance: durable.Instance[int]) -> dict[str, Callable[[], Awaitable[Any]]]:
    return {
        "shown": instance.history,
        "kept": lambda: client.export_history("a"),
        "forked": lambda: instance.fork(1),
    }


@pytest.mark.parametrize("way", ["shown", "kept", "forked"])
async def test_what_lacks_is_told(both: tuple[Client, Store, durable.Instance[int]], way: str) -> None:
    client, store, instance = both
    whole = len(await instance.history())
    torn(store, whole - 1)
    with pytest.raises(BackendError, match=f"'a': its history has {whole - 1} events instead of {whole}"):
        await _ways(client, instance)[way]()


@pytest.mark.parametrize("way", ["shown", "kept", "forked"])
async def test_what_was_deleted_between_the_two_looks_does_not_exist(
    both: tuple[Client, Store, durable.Instance[int]], way: str
) -> None:
    client, store, instance = both

    async def read(real: Any, ranges: Any) -> Any:
        await instance.delete()
        return await real(ranges)

    store.hooks["read_history"] = read
    with pytest.raises(durable.InstanceNotFound):
        await _ways(client, instance)[way]()


async def test_what_is_kept_is_of_one_moment() -> None:
    """What was written between the two looks would stand under a heading that says that nobody has begun."""
    async with connected() as (client, store):
        instance = await client.create_instance(adds, id="a")

        async def read(real: Any, ranges: Any) -> Any:
            store.hooks.clear()
            await instance.signal(GO, 1)
            await instance.signal(GO, 2)
            async with durable.Worker(client, [adds]):
                await instance.result(timeout=10)
            return await real(ranges)

        store.hooks["read_history"] = read
        heading, *events = (await client.export_history("a")).splitlines()
    assert (orjson.loads(heading)["begun"], len(events)) == (False, 1)
