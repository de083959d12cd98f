"""What a URL may say, and at which doors one is turned away: one line each, and never with the password."""

from __future__ import annotations

import asyncio
import re
import secrets
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest

from durable.backends.postgres import migrating, open_store
from durable.backends.postgres.address import OPTIONS, parse_url
from durable.backends.records import Accepted, Created, InstanceRef
from durable.backends.sql.server.tables import TABLES
from durable.errors import BackendError
from durable.testing.conformance.specimens import message, new

# --- what a URL says


def test_a_url_says_everything() -> None:
    address = parse_url(
        "postgresql://me%40x:s3%2Fcret@db:6543/shop?schema=a_b&pool_size=4&pool_idle=9&connect_timeout=2.5"
        "&call_timeout=7&pgbouncer=true&wakeups=off&group_by_part=true&sslmode=require&poll=1"
    )
    assert (address.user, address.password, address.hosts) == ("me@x", "s3/cret", (("db", 6543),))
    assert (address.database, address.schema) == ("shop", "a_b")
    assert (address.pool_size, address.pool_idle_seconds) == (4, 9.0)
    assert (address.connect_seconds, address.call_seconds) == (2.5, 7.0)
    assert (address.pgbouncer, address.wakeups, address.group_by_part) == (True, False, True)
    assert address.ssl_mode == "require"


def test_what_is_not_said_has_a_default() -> None:
    address = parse_url("postgres://me@localhost/shop")
    assert (address.hosts, address.schema, address.password) == ((("localhost", 5432),), "public", None)
    assert (address.pool_size, address.wakeups, address.pgbouncer) == (10, True, False)


def test_the_password_is_in_no_text_of_an_address() -> None:
    address = parse_url("postgresql://me:s3cret@db/shop?schema=x")
    assert "s3cret" not in f"{address!r} {address} {address.url}"
    assert address.url == "postgresql://me@db:5432/shop?schema=x"


@pytest.mark.parametrize(
    ("tail", "complaint"),
    [
        ("?shema=x", "does not know the option 'shema'"),
        ("?prefix=x", "use ?schema= instead of ?prefix="),
        ("?pool_size=1", "pool_size is a number from 2 to 1000, not '1'"),
        ("?pool_size=many", "pool_size is a number"),
        ("?connect_timeout=0", "connect_timeout is a number from 0.1"),
        ("?sslmode=perhaps", "sslmode is one of disable"),
        ("?wakeups=perhaps", "wakeups is true or false"),
        ("?schema=a;b", "schema is a name of letters"),
        ("?sslrootcert=/nowhere.pem", "sslrootcert, sslcert or sslkey cannot be used"),
        ("#x", "write '#'"),
    ],
)
async def test_what_a_url_cannot_say_is_a_value_error(tail: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=re.escape(complaint)) as caught:
        await open_store(f"postgresql://me:s3cret@127.0.0.1:1/shop{tail}")
    assert "s3cret" not in str(caught.value)


def test_the_reference_knows_every_option() -> None:
    page = Path(__file__).parents[3] / "docs" / "reference" / "postgresql.md"
    assert [name for name in OPTIONS if f"`{name}`" not in page.read_text()] == []


@pytest.mark.parametrize("url", ["postgresql://", "postgresql://me@host", "postgresql://host/shop"])
def test_user_and_database_must_be_named(url: str) -> None:
    with pytest.raises(ValueError, match="write postgresql://user"):
        parse_url(url)


@pytest.mark.parametrize(
    ("mode", "checks_name", "checks_chain"),
    [("require", False, False), ("verify-ca", False, True), ("verify-full", True, True)],
)
def test_tls_as_far_as_it_is_asked_for(mode: str, checks_name: bool, checks_chain: bool) -> None:
    context: Any = parse_url(f"postgresql://me@db/shop?sslmode={mode}").tls()
    assert (context.check_hostname, context.verify_mode.name == "CERT_REQUIRED") == (
        checks_name,
        checks_chain,
    )


# --- who is let in


async def refusal(url: str) -> str:
    """The one line with which a URL is refused."""
    with pytest.raises(BackendError) as caught:
        await open_store(url)
    text = str(caught.value)
    password = urlsplit(url).password
    assert "\n" not in text and text.startswith(parse_url(url).url)
    assert not password or password not in text
    return text


def changed(url: str, **parts: Any) -> str:
    """The URL with another user, port or path."""
    split = urlsplit(url)
    user, password = parts.get("user", split.username), parts.get("password", split.password)
    where = f"{user}:{password}@{split.hostname}:{parts.get('port', split.port)}"
    return urlunsplit(split._replace(netloc=where, path=parts.get("path", split.path)))


async def say(url: str, *statements: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


@asynccontextmanager
async def user(url: str, *statements: str) -> AsyncIterator[str]:
    """The URL of a user of its own; ``{user}`` in the statements, which are made by the owner."""
    name = f"u{secrets.token_hex(4)}"
    await say(url, f"CREATE USER {name} PASSWORD 'their-password'")
    try:
        await say(url, *(statement.format(user=name) for statement in statements))
        yield changed(url, user=name, password="their-password")
    finally:
        await say(url, f"DROP OWNED BY {name}", f"DROP USER {name}")


WRITES = "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {user}"


async def test_a_wrong_password(postgres_url: str) -> None:
    assert "the password for user" in await refusal(changed(postgres_url, password="wrong-one"))


async def test_a_database_that_is_not_there(postgres_url: str) -> None:
    text = await refusal(changed(postgres_url, path="/nowhere"))
    assert "there is no database 'nowhere'; create it, or name another in the URL" in text


async def test_nothing_answers() -> None:
    assert "no connection to the server" in await refusal("postgresql://me:s3cret@127.0.0.1:1/shop")


async def test_a_server_that_accepts_and_says_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"postgresql://me:x-y-z@127.0.0.1:{silent.getsockname()[1]}/shop?connect_timeout=0.2"
        assert "the server did not answer in time" in await refusal(url)


async def test_a_user_who_may_not_make_tables(postgres_url: str) -> None:
    async with user(postgres_url, "REVOKE CREATE ON SCHEMA public FROM PUBLIC") as url:
        assert "the grant is missing (permission denied" in await refusal(url)
        assert "the grant is missing (permission denied" in await refusal(f"{url}?schema=mine")


async def test_a_user_without_ddl_runs_the_engine_once_the_tables_are_there(postgres_url: str) -> None:
    await (await open_store(postgres_url)).close()
    async with user(postgres_url, WRITES, "REVOKE CREATE ON SCHEMA public FROM PUBLIC") as url:
        store = await open_store(url)
        await store.migrate()
        assert (await store.create([new()])).items == [Created(run_id="a-1")]
        assert (await store.send([message()])).items == [Accepted()]
        assert (await store.audit(repair=True)).items == []
        await store.close()


async def test_a_user_who_may_only_read_is_told_what_is_missing(postgres_url: str) -> None:
    await (await open_store(postgres_url)).close()
    async with user(postgres_url, "GRANT SELECT ON ALL TABLES IN SCHEMA public TO {user}") as url:
        text = await refusal(url)
    assert "lacks grants in schema 'public': activities: DELETE, activities: INSERT" in text
    assert "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO u" in text


async def test_more_connections_than_the_server_has_are_told_as_that(postgres_url: str) -> None:
    await (await open_store(postgres_url)).close()
    async with user(postgres_url, WRITES, "ALTER USER {user} CONNECTION LIMIT 0") as url:
        assert "the server has no free connection" in await refusal(url)


# --- which servers and schemas will do


async def test_a_server_that_is_too_old(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migrating, "OLDEST_SERVER", (99, 0))
    assert "and 99 is the oldest that durable runs on" in await refusal(postgres_url)


async def test_a_schema_of_a_newer_release(postgres_url: str) -> None:
    store = await open_store(postgres_url)
    await say(postgres_url, "UPDATE meta SET value = '77' WHERE name IN ('schema', 'oldest_schema')")
    assert "has schema 77, and this release knows 1 at most; use a newer release" in await refusal(
        postgres_url
    )
    await say(postgres_url, "DELETE FROM meta WHERE name = 'oldest_schema'")
    assert "has schema 77" in await refusal(postgres_url)
    await store.close()


async def test_a_newer_schema_that_says_that_this_release_may_go_on(postgres_url: str) -> None:
    await (await open_store(postgres_url)).close()
    await say(postgres_url, "UPDATE meta SET value = '77' WHERE name = 'schema'")
    await (await open_store(postgres_url)).close()
    await say(postgres_url, "UPDATE meta SET value = '78' WHERE name = 'oldest_schema'")
    assert "has schema 77" in await refusal(postgres_url)  # it was not set back


@pytest.mark.parametrize("table", ["meta (x int)", "instances (x int)", "meta (name text, value text)"])
async def test_tables_of_another_application_are_not_touched(postgres_url: str, table: str) -> None:
    await say(postgres_url, f"CREATE TABLE {table}")
    text = await refusal(postgres_url)
    assert "has tables of another application" in text and "?schema=" in text
    connection = await asyncpg.connect(postgres_url)
    assert await connection.fetchval("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == 1
    await connection.close()
    store = await open_store(postgres_url, schema="mine")
    assert (await store.create([new()])).items == [Created(run_id="a-1")]
    await store.close()


async def test_four_that_start_at_once_make_one_schema(postgres_url: str) -> None:
    stores = await asyncio.gather(*(open_store(postgres_url, schema="new") for _ in range(4)))
    for store in stores:
        await store.close()
    connection = await asyncpg.connect(postgres_url)
    rows = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'new'")
    await connection.close()
    assert {row[0] for row in rows} == set(TABLES)


async def test_a_migration_that_is_done_twice_changes_nothing(postgres_url: str) -> None:
    store = await open_store(postgres_url)
    await store.create([new()])
    await say(postgres_url, "UPDATE meta SET value = '0' WHERE name = 'schema'")
    await store.migrate()
    assert (await store.get([InstanceRef(instance_id="a")])).items[0] is not None
    await store.close()


async def test_schemas_keep_tenants_apart(postgres_url: str) -> None:
    one, other = await open_store(postgres_url), await open_store(f"{postgres_url}?schema=other")
    await one.create([new()])
    assert (await other.get([InstanceRef(instance_id="a")])).items == [None]
    assert (await other.create([new()])).items == [Created(run_id="a-1")]
    await one.close()
    await other.close()


async def test_columns_and_keys_are_those_that_the_shared_part_knows(postgres_url: str) -> None:
    await (await open_store(postgres_url)).close()
    types = {
        "part": "integer",
        "int": "bigint",
        "id": "text",
        "text": "text",
        "json": "json",
        "bytes": "bytea",
    }
    connection = await asyncpg.connect(postgres_url)
    for table in TABLES.values():
        columns = await connection.fetch(
            "SELECT column_name, data_type, collation_name FROM information_schema.columns "
            "WHERE table_schema = 'public' AND table_name = $1 ORDER BY ordinal_position",
            table.name,
        )
        assert [(row[0], row[1]) for row in columns] == [
            (name, types[kind]) for name, kind in table.columns.items()
        ]
        assert all(collation == "C" for name, _, collation in columns if table.columns[name] == "id"), (
            table.name
        )
        key = await connection.fetch(
            "SELECT a.attname FROM pg_index AS x JOIN unnest(x.indkey) WITH ORDINALITY AS k(n, at) ON true "
            "JOIN pg_attribute AS a ON a.attrelid = x.indrelid AND a.attnum = k.n "
            "WHERE x.indrelid = $1::regclass AND x.indisprimary ORDER BY k.at",
            table.name,
        )
        assert tuple(row[0] for row in key) == table.key
    await connection.close()
