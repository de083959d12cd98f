"""What servers refuse beside their doors: a standby that only reads, a pool that is used up, tables that are gone."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator

import pytest

import durable
from durable.testing import servers
from durable.testing.conformance.specimens import new
from tests.operations.speaking import ask, changed, connected, say


@durable.workflow
async def nothing() -> None:
    return None


@pytest.fixture
async def primary() -> AsyncIterator[servers.Server]:
    try:
        async with servers.private("postgres") as server:
            yield server
    except servers.Unavailable as missing:
        if servers.required("postgres"):
            raise
        pytest.skip(str(missing))


async def test_a_standby_says_that_it_only_reads_and_is_found_to_be_none(primary: servers.Server) -> None:
    async with durable.connect(primary.url) as client:
        await client.create_instance(nothing, id="a")
    async with servers.standby(primary) as standby:
        async with durable.connect(standby.url) as client:
            assert (await client.get_instance("a").describe()).state == "running"
            with pytest.raises(
                durable.BackendError, match=r"the server only reads \(.+\); it is a standby, name the p"
            ):
                await client.store.create([new("b")])
        there = changed(standby.url).rpartition("@")[2].partition("/")[0]
        both = standby.url.replace(there, f"{there},{primary.url.rpartition('@')[2].partition('/')[0]}")
        async with durable.connect(both) as client:
            await client.create_instance(nothing, id="b")


async def test_a_mysql_server_that_only_reads_says_so() -> None:
    try:
        async with servers.private("mysql") as server, server.database() as url:
            async with durable.connect(url) as client:
                await client.create_instance(nothing, id="a")
            name = f"u{secrets.token_hex(4)}"
            rights = f"SELECT, INSERT, UPDATE, DELETE ON {url.rpartition('/')[2]}.*"
            await say(
                server.url,
                f"CREATE USER '{name}'@'%' IDENTIFIED BY 'x'",
                f"GRANT {rights} TO '{name}'@'%'",
                "SET GLOBAL read_only = 1",
            )
            async with durable.connect(changed(url, user=name, password="x")) as client:
                assert (await client.get_instance("a").describe()).state == "running"
                with pytest.raises(durable.BackendError, match=r"the server is read-only \(a standby\?\)"):
                    await client.store.create([new("b")])
            await say(server.url, "SET GLOBAL read_only = 0")
    except servers.Unavailable as missing:
        if servers.required("mysql"):
            raise
        pytest.skip(str(missing))


@pytest.fixture(params=["postgres", "mysql"])
def url(request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue(f"{request.param}_url"))


async def test_a_pool_that_is_used_up_says_what_to_raise(url: str) -> None:
    async with durable.connect(url):
        pass  # to make the tables may take longer than a call
    async with connected(url) as holder, durable.connect(f"{url}?pool_size=2&call_timeout=1") as client:
        await client.create_instance(nothing, id="a")
        await ask(holder, "BEGIN" if url.startswith("postgres") else "START TRANSACTION")
        lock = "SELECT name FROM meta FOR UPDATE"
        await ask(holder, lock)
        database = client.store._database  # type: ignore[attr-defined]

        async def wait(session: object) -> None:
            await session.fetch("SELECT t.name FROM @meta AS t FOR UPDATE")  # type: ignore[attr-defined]

        held = [asyncio.create_task(database.transact(wait)) for _ in range(4)]
        said = [str(error) for error in await asyncio.gather(*held, return_exceptions=True)]
        await ask(holder, "ROLLBACK")
        assert any("raise pool_size" in one for one in said), said
        await client.create_instance(nothing, id="b")


async def test_tables_that_are_gone_are_named_and_made_anew_when_the_store_is_opened(url: str) -> None:
    async with durable.connect(url) as client:
        await client.create_instance(nothing, id="a")
        await say(url, "DROP TABLE IF EXISTS questions" + (" CASCADE" if url.startswith("postgres") else ""))
        with pytest.raises(durable.BackendError, match="a table is missing"):
            await client.get_instance("a").query("x")
