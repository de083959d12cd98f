"""A payload that MySQL's ``max_allowed_packet`` is too small for: on a real server, which would hang up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

import durable
from durable.testing import servers
from tests.operations.speaking import ask, connected, say

PACKET = 64 * 1024
BIG = "x" * 200_000
take: durable.Signal[str] = durable.Signal("take", str)


@durable.activity(retry=durable.Retry(max_attempts=2, initial=0.01))
async def blow_up(size: int) -> str:
    return "x" * size


@durable.workflow
async def echo(text: str) -> int:
    return len(text)


@durable.workflow
async def ask_for(size: int) -> str:
    try:
        return str(len(await blow_up(size)))
    except Exception as error:
        return f"{type(error).__name__}: {error}"


@pytest.fixture
async def server() -> AsyncIterator[servers.Server]:
    try:
        async with servers.private("mysql") as found:
            await say(found.url, f"SET GLOBAL max_allowed_packet = {PACKET}")
            yield found
    except servers.Unavailable as missing:
        if servers.required("mysql"):
            raise
        pytest.skip(str(missing))


@pytest.fixture
async def url(server: servers.Server) -> AsyncIterator[str]:
    async with server.database() as found:
        yield found


async def test_what_is_too_large_is_refused_in_a_line_and_nothing_else_is_harmed(url: str) -> None:
    async with durable.connect(url) as client, durable.Worker(client, [echo, ask_for, blow_up]):
        small = [await client.create_instance(echo, "x" * 1000, id=f"small{n}") for n in range(5)]
        with pytest.raises(durable.DurableError, match="raise its max_allowed_packet") as caught:
            await client.create_instance(echo, BIG, id="big")
        assert "\n" not in str(caught.value)
        with pytest.raises(durable.InstanceNotFound):
            await client.get_instance("big").describe()
        waits = await client.create_instance(ask_for, 10, id="waits")
        with pytest.raises(durable.DurableError, match="raise its max_allowed_packet"):
            await waits.signal(take, BIG)
        assert await asyncio.gather(*small) == [1000] * 5
        assert await waits == "10"
        assert await client.audit() == []
    async with connected(url) as people:
        assert await ask(people, "SELECT 1 FROM instances WHERE instance_id = 'big'") == []


async def test_a_result_that_is_too_large_stalls_its_instance_until_the_server_takes_it(
    url: str, server: servers.Server
) -> None:
    async with durable.connect(url) as client, durable.Worker(client, [ask_for, blow_up]):
        instance = await client.create_instance(ask_for, 200_000, id="a")
        while (found := await instance.describe()).state != "stalled":  # noqa: ASYNC110
            await asyncio.sleep(0.01)  # nobody tells when an instance stalls
        assert found.problem is not None and "raise its max_allowed_packet" in str(found.problem)
        assert await client.audit() == []
    await say(server.url, f"SET GLOBAL max_allowed_packet = {2**24}")
    async with durable.connect(url) as client, durable.Worker(client, [ask_for, blow_up]):
        instance = client.get_instance("a", workflow=ask_for)
        await instance.resume()
        assert await instance.result(timeout=30) == "200000"
