"""The servers for tests: found, started, shared, hurt, and gone afterwards."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from durable.testing import servers

SERVICES = ("postgres", "mysql")


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)  # another process's doing: there is nothing to wait on


def lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"


async def answers(server: servers.Server) -> bool:
    try:
        async with server.database():
            return True
    except OSError:
        return False
    except Exception as error:
        if "connect" in str(error).lower() or "closed" in str(error).lower():
            return False
        raise


@pytest.mark.parametrize("service", SERVICES)
async def test_a_database_for_each_test(service: str, request: pytest.FixtureRequest) -> None:
    server = request.getfixturevalue(f"{service}_server")
    async with server.database() as one, server.database() as other:
        assert one != other
        assert urlsplit(one).netloc == urlsplit(server.url).netloc
    with pytest.raises(ValueError, match="not made by create_database"):
        await server.drop_database(server.url)


@pytest.mark.parametrize("service", SERVICES)
async def test_the_shared_server_is_not_to_be_hurt(service: str, request: pytest.FixtureRequest) -> None:
    server = request.getfixturevalue(f"{service}_server")
    for hurt in (server.kill, server.stop, server.pause):
        with pytest.raises(RuntimeError, match="only a private server"):
            await hurt()


@pytest.mark.parametrize("service", SERVICES)
async def test_a_private_server_is_killed_and_goes_on_with_its_data(service: str) -> None:
    try:
        async with servers.private(service, durable=True) as server:
            folder = server.folder
            url = await server.create_database()
            for end in (server.kill, server.stop):
                before = server.pid
                await end()
                assert not lives(before)
                assert not await answers(server)
                await server.start()
                assert server.pid != before
                assert await answers(server)
            await server.drop_database(url)
            await server.pause()
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.3):
                    await server.create_database()
            await server.resume()
            assert await answers(server)
    except servers.Unavailable as missing:
        _skip(service, missing)
    assert not os.path.exists(folder)  # noqa: ASYNC240, PTH110
    assert not lives(server.pid)


def _skip(service: str, missing: servers.Unavailable) -> None:
    if servers.required(service):
        raise missing
    pytest.skip(str(missing))
