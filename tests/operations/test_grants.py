"""The statements of docs/how-to/grants.md, word for word, and then the engine as the role that they make."""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import AsyncIterator

import asyncpg
import pymysql
import pytest
from click.testing import CliRunner

import durable
from durable.cli.main import main
from durable.testing import servers
from tests.operations.pages import PAGES, blocks, statements
from tests.operations.speaking import ask, changed, connected, say

PAGE = "grants.md"
REFUSED = (asyncpg.InsufficientPrivilegeError, pymysql.err.OperationalError)
approve: durable.Signal[int] = durable.Signal("approve", int)


@durable.activity
async def note(name: str) -> str:
    async with durable.transaction() as connection:
        await ask(connection, f"INSERT INTO notes VALUES ('{name}')")
    return f"noted {name}"


@durable.workflow
async def handle(name: str) -> str:
    @durable.query
    def waiting() -> str:
        return f"{name} waits"

    durable.set_status("open")
    durable.publish("orders", name)
    noted = await note(name)
    cents = await approve.receive()
    await asyncio.sleep(0.01)
    return f"{noted}, {cents} cents"


class Shop:
    """The page's roles and databases on one server, under names of this test's own."""

    def __init__(self, kind: str, url: str, name: str) -> None:
        self.kind = kind
        self.name = name
        self.administrator = url
        self.tail = "?schema=flows" if kind == "postgres" else ""

    def url(self, role: str, database: str | None = None) -> str:
        name = database or self.name
        return changed(
            self.administrator, user=f"{self.name}_{role}", password=f"{role}s-secret", database=name
        )

    def engine_url(self, role: str) -> str:
        return self.url(role) + self.tail

    async def do(self, url: str, mark: str) -> None:
        """A block of the page."""
        found = [text.replace("shop", self.name) for text in statements(PAGE, f"{self.kind}: {mark}")]
        assert found, mark
        await say(url, *found)

    async def set_up(self) -> None:
        await self.do(self.administrator, "administrator")
        if self.kind == "postgres":
            await self.do(self.url("owner"), "owner, before")
        ran = await asyncio.to_thread(
            CliRunner().invoke, main, ["db", "migrate", "--url", self.engine_url("owner")]
        )
        assert (ran.exit_code, "secret" in ran.output) == (0, False), ran.output
        await self.do(self.url("owner"), "owner, after")

    async def tear_down(self) -> None:
        roles = [f"{self.name}_{role}" for role in ("owner", "engine", "reader")]
        if self.kind == "postgres":
            await say(self.administrator, f"DROP DATABASE IF EXISTS {self.name} WITH (FORCE)")
            await say(self.administrator, *(f"DROP ROLE IF EXISTS {role}" for role in roles))
            return
        await say(self.administrator, *(f"DROP DATABASE IF EXISTS {self.name}{x}" for x in ("", "_views")))
        await say(self.administrator, *(f"DROP USER IF EXISTS '{role}'@'%'" for role in roles))


@pytest.fixture(params=["postgres", "mysql"])
async def shop(request: pytest.FixtureRequest) -> AsyncIterator[Shop]:
    server: servers.Server = request.getfixturevalue(f"{request.param}_server")
    found = Shop(request.param, server.url, f"durable_{secrets.token_hex(4)}")
    try:
        await found.set_up()
        yield found
    finally:
        await found.tear_down()


async def _own_table(shop: Shop) -> None:
    """What the page leaves to the users: a table of their own, with its grant."""
    text = "GRANT INSERT, SELECT ON notes TO "
    await say(shop.url("owner"), "CREATE TABLE notes (name VARCHAR(100) NOT NULL)")
    if shop.kind == "postgres":
        await say(shop.url("owner"), f"{text}{shop.name}_engine")


async def test_the_role_without_ddl_runs_the_engine(shop: Shop) -> None:
    await _own_table(shop)
    url = shop.engine_url("engine")
    async with durable.connect(url) as client, durable.Worker(client, [handle, note]):
        async with connected(url) as connection:
            await ask(connection, "BEGIN")
            instance = await client.create_instance(handle, "o-1", id="o-1", connection=connection)
            await ask(connection, "INSERT INTO notes VALUES ('by hand')")
            await ask(connection, "COMMIT")
            assert await instance.query("waiting") == "o-1 waits"
            await ask(connection, "BEGIN")
            await instance.signal(approve, 100, connection=connection)
            await ask(connection, "COMMIT")
            assert await instance == "noted o-1, 100 cents"
            found = await ask(connection, "SELECT name FROM notes ORDER BY name")
        assert [row["name"] for row in found] == ["by hand", "o-1"]
        assert await client.audit(repair=True) == []
        await instance.delete()


async def test_the_engine_and_the_reader_may_do_no_more(shop: Shop) -> None:
    tables = "flows." if shop.kind == "postgres" else f"{shop.name}."
    views = "flows." if shop.kind == "postgres" else f"{shop.name}_views."
    reads = shop.url("reader", None if shop.kind == "postgres" else f"{shop.name}_views")
    async with durable.connect(shop.engine_url("engine")) as client:
        await client.create_instance(handle, "o-1", id="o-1")
    async with connected(shop.url("engine")) as engine:
        for statement in (f"CREATE TABLE {tables}x (n int)", f"DROP TABLE {tables}instances"):
            with pytest.raises(REFUSED, match=r"(?i)denied|owner"):
                await ask(engine, statement)
    async with connected(reads) as reader:
        (row,) = await ask(reader, f"SELECT foreign_id, run_state FROM {views}workflow_records")
        assert (row["foreign_id"], row["run_state"]) == ("o-1", "running")
        assert await ask(reader, f"SELECT id FROM {views}workflow_outbox") == []
        for statement in (
            f"SELECT * FROM {tables}instances",
            f"SELECT * FROM {tables}history",
            f"DELETE FROM {views}workflow_outbox",
        ):
            with pytest.raises(REFUSED, match=r"(?i)denied"):
                await ask(reader, statement)


def test_the_commands_of_the_page_are_those_of_the_test() -> None:
    commands = re.findall(r"^    (durable .+)$", (PAGES / PAGE).read_text(), re.MULTILINE)
    assert commands == [
        "durable db migrate --url 'postgresql://shop_owner:owners-secret@host/shop?schema=flows'",
        "durable db migrate --url 'mysql://shop_owner:owners-secret@host/shop'",
    ]
    assert len(blocks(PAGE, "sql")) == 5
