"""Nothing is pushed here: workers poll. An idle one asks little, and a busy one is heard of soon enough."""

from __future__ import annotations

import asyncio

import pytest

import durable
from durable.backends.mysql.driver import Link, Result

POLL_SECONDS = 0.2


@durable.workflow
async def echo(word: str) -> str:
    return word


async def test_an_idle_worker_asks_at_most_twice_in_the_time_of_a_poll(
    mysql_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[bytes] = []
    plain = Link.run

    async def run(link: Link, statement: bytes) -> list[Result]:
        sent.append(statement)
        return await plain(link, statement)

    url = f"{mysql_url}?poll={POLL_SECONDS}"
    async with durable.connect(url) as client, durable.Worker(client, [echo]):
        instance = await client.create_instance(echo, "x")
        assert await instance.result() == "x"
        await asyncio.sleep(
            5 * POLL_SECONDS
        )  # there is nobody who could say that the worker has come to rest
        monkeypatch.setattr(Link, "run", run)
        await asyncio.sleep(15 * POLL_SECONDS)
        monkeypatch.undo()
    assert len(sent) <= 2 * 15 + 2, sent
    assert not [statement for statement in sent if not statement.startswith(b"(SELECT")]


async def test_a_worker_hears_of_what_another_process_made_within_a_poll(mysql_url: str) -> None:
    url = f"{mysql_url}?poll={POLL_SECONDS}"
    async with durable.connect(url) as client, durable.connect(url) as other, durable.Worker(client, [echo]):
        await asyncio.sleep(3 * POLL_SECONDS)
        async with asyncio.timeout(20 * POLL_SECONDS):
            instance = await other.create_instance(echo, "y")
            assert await instance.result() == "y"
