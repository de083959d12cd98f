"""The door: addresses, who is let in, which servers and schemas will do. One clear line each, without the password."""

from __future__ import annotations

import asyncio
import secrets
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.util import find_spec
from typing import Any, cast
from urllib.parse import urlsplit, urlunsplit

import pytest

from durable.backends.mysql import database, driver, migrating, open_store
from durable.backends.mysql.address import DRIVERS, parse_url
from durable.backends.mysql.driver import Version, read_version
from durable.backends.mysql.failures import Failure
from durable.backends.records import Accepted, Created, InstanceRef, Refused
from durable.errors import BackendError
from durable.testing.conformance.specimens import message, new

URL = "mysql://me:s3cret@host:3307/shop"


def driver_names() -> list[str]:
    return [name for name in DRIVERS if find_spec(name)]


# --- addresses


def test_a_url_says_everything() -> None:
    url = f"{URL}?schema=engine&pool_size=4&pool_idle=60&connect_timeout=2.5&call_timeout=7&driver=asyncmy&poll=1"
    found = parse_url(url)
    assert (found.host, found.port, found.user, found.password) == ("host", 3307, "me", "s3cret")
    assert (found.database, found.schema, found.driver) == ("shop", "engine", "asyncmy")
    assert (found.pool_size, found.pool_idle_seconds) == (4, 60)
    assert (found.connect_seconds, found.call_seconds) == (2.5, 7)


def test_what_is_not_said_has_a_default() -> None:
    found = parse_url("mariadb://me@host/shop")
    assert (found.port, found.password, found.schema, found.driver) == (3306, "", "shop", "aiomysql")
    assert (found.pool_size, found.pool_idle_seconds, found.connect_seconds) == (10, 300, 5)
    assert found.tls() is None


def test_names_are_unquoted_and_the_password_is_in_no_text_of_an_address() -> None:
    found = parse_url("mysql://m%40e:p%2Fw@[::1]/sh%20op")
    assert (found.user, found.password, found.host, found.database) == ("m@e", "p/w", "::1", "sh op")
    assert found.url == "mysql://m%40e@[::1]:3306/sh%20op"
    assert "p/w" not in repr(found) and "p%2Fw" not in repr(found)


@pytest.mark.parametrize(
    ("tail", "complaint"),
    [
        ("?pool_sise=3", "does not know the option 'pool_sise'; it has poll, schema, driver,"),
        ("?pool_size=1", "pool_size is a number from 2 to 1000, not '1'"),
        ("?pool_size=x", "pool_size is a number from 2 to 1000, not 'x'"),
        ("?driver=mysqlclient", "driver is one of aiomysql, asyncmy, not 'mysqlclient'"),
        ("?ssl_mode=maybe", "ssl_mode is one of disabled, required, verify_ca, verify_identity, not 'maybe'"),
        ("?schema=a`b", "cannot be the name of a database"),
        ("#x", "write '#' in a user name, password or database as %23"),
    ],
)
async def test_what_a_url_cannot_say_is_a_value_error(tail: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint) as caught:
        await open_store(URL + tail)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("url", ["mysql://host/shop", "mysql://me@host", "mysql://me@host/"])
def test_user_and_database_must_be_named(url: str) -> None:
    with pytest.raises(ValueError, match="write mysql://user:password@host:3306/database"):
        parse_url(url)


def test_a_port_is_a_number() -> None:
    with pytest.raises(ValueError, match="the port is no number from 1 to 65535"):
        parse_url("mysql://me@host:99999/shop")


async def test_settings_that_are_not_the_stores_are_value_errors() -> None:
    with pytest.raises(ValueError, match="does not know the option 'busy_timeout_seconds'"):
        await open_store(URL, busy_timeout_seconds=3)


def test_certificates_that_cannot_be_read_are_a_value_error() -> None:
    with pytest.raises(ValueError, match="ssl_ca, ssl_cert or ssl_key cannot be used"):
        parse_url(f"{URL}?ssl_ca=/nowhere.pem").tls()


@pytest.mark.parametrize(
    ("mode", "checks_name", "checks_chain"),
    [("required", False, False), ("verify_ca", False, True), ("verify_identity", True, True)],
)
def test_tls_as_far_as_it_is_asked_for(mode: str, checks_name: bool, checks_chain: bool) -> None:
    context = parse_url(f"{URL}?ssl_mode={mode}").tls()
    assert context is not None
    assert (context.check_hostname, bool(context.verify_mode)) == (checks_name, checks_chain)


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
    link = await driver.connect(parse_url(url))
    for statement in statements:
        await link.run(statement.encode())
    await link.close()


@asynccontextmanager
async def user(url: str, *grants: str) -> AsyncIterator[str]:
    """The URL of a user of its own, who may do this in the database."""
    name, place = f"u{secrets.token_hex(4)}", urlsplit(url).path[1:]
    give = [f"GRANT {grant} ON {place}.* TO {name}@'%'" for grant in grants]
    await say(url, f"CREATE USER {name}@'%' IDENTIFIED BY 'their password'", *give)
    try:
        yield changed(url, user=name, password="their%20password")
    finally:
        await say(url, f"DROP USER {name}@'%'")


async def test_a_wrong_password(mysql_url: str) -> None:
    text = await refusal(changed(mysql_url, password="wrong-one"))
    assert "the server refuses the user name or the password for the user" in text


async def test_a_database_that_is_not_there(mysql_url: str) -> None:
    assert "there is no such database; CREATE it first" in await refusal(changed(mysql_url, path="/nowhere"))


async def test_nothing_answers() -> None:
    text = await refusal("mysql://me:s3cret@127.0.0.1:1/shop")
    assert "nothing answers there; is the server running, and is this its host and port?" in text


async def test_a_server_that_accepts_and_says_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        assert "nothing answers there" in await refusal(
            f"mysql://me:x@127.0.0.1:{port}/shop?connect_timeout=0.2"
        )


async def test_a_user_without_any_grant(mysql_url: str) -> None:
    async with user(mysql_url) as url:
        assert "the database may not be used for the user" in await refusal(url)


async def test_a_user_who_may_not_make_tables(mysql_url: str) -> None:
    async with user(mysql_url, "SELECT, INSERT, UPDATE, DELETE") as url:
        assert "a right is missing for the user" in await refusal(url)


async def test_a_user_without_ddl_runs_the_engine_once_the_tables_are_there(mysql_url: str) -> None:
    await (await open_store(mysql_url)).close()
    async with user(mysql_url, "SELECT, INSERT, UPDATE, DELETE") as url:
        store = await open_store(url)
        await store.migrate()
        assert (await store.create([new()])).items == [Created(run_id="a-1")]
        assert (await store.send([message()])).items == [Accepted()]
        await store.close()


async def test_a_user_who_may_only_read_is_told_what_is_missing(mysql_url: str) -> None:
    await (await open_store(mysql_url)).close()
    async with user(mysql_url, "SELECT") as url:
        store = await open_store(url)
        with pytest.raises(BackendError, match=r"a right is missing; see docs/how-to/grants\.md"):
            await store.create([new()])
        await store.close()


async def test_a_driver_that_is_not_installed(mysql_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Any:
        raise ModuleNotFoundError(f"No module named {name!r}", name="asyncmy")

    monkeypatch.setattr(driver.importlib, "import_module", missing)
    text = await refusal(f"{mysql_url}?driver=asyncmy")
    assert "the driver asyncmy is not installed. Type: pip install 'durable-engine[asyncmy]'" in text


@pytest.mark.parametrize("name", driver_names())
async def test_tls_that_was_asked_for_is_never_left_out(mysql_url: str, name: str) -> None:
    url = f"{mysql_url}?ssl_mode=required&driver={name}"
    try:
        link = await driver.connect(parse_url(url))
    except Failure:
        assert "TLS was asked for, and the server has none" in await refusal(url)
    else:
        ((_, version),) = (await link.run(b"SHOW STATUS LIKE 'Ssl_version'"))[0].rows
        assert version
        await link.close()


async def test_a_way_to_log_in_that_takes_a_package(mysql_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refused(address: object) -> None:
        raise RuntimeError("'cryptography' package is required for sha256_password or caching_sha2_password")

    monkeypatch.setattr(driver, "_open", refused)
    text = await refusal(mysql_url)
    assert (
        "to log in without TLS takes a package; add ?ssl_mode=required, or type: pip install cryptography"
        in text
    )


# --- which servers and schemas will do


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("8.0.36", Version(False, (8, 0, 36), "8.0.36")),
        ("8.4.0-commercial", Version(False, (8, 4, 0), "8.4.0-commercial")),
        ("10.11.6-MariaDB-1", Version(True, (10, 11, 6), "10.11.6-MariaDB-1")),
        ("5.5.5-10.6.1-MariaDB", Version(True, (10, 6, 1), "5.5.5-10.6.1-MariaDB")),
    ],
)
def test_versions_are_read(text: str, version: Version) -> None:
    assert read_version(text) == version


async def test_a_server_that_is_too_old(mysql_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "LEAST_MARIADB", (99, 1, 0))
    monkeypatch.setattr(database, "LEAST_MYSQL", (99, 1, 0))
    assert "and this store needs 99.1.0 or later" in await refusal(mysql_url)


async def test_a_schema_of_a_newer_release(mysql_url: str) -> None:
    store = await open_store(mysql_url)
    await say(mysql_url, "UPDATE meta SET value = '77' WHERE name IN ('schema', 'oldest_schema')")
    assert "has schema 77, and this release knows 1 at most; use a newer release" in await refusal(mysql_url)
    await say(mysql_url, "DELETE FROM meta WHERE name = 'oldest_schema'")
    assert "has schema 77" in await refusal(mysql_url)
    await store.close()


async def test_a_newer_schema_that_says_that_this_release_may_go_on(mysql_url: str) -> None:
    await (await open_store(mysql_url)).close()
    await say(mysql_url, "UPDATE meta SET value = '77' WHERE name = 'schema'")
    await (await open_store(mysql_url)).close()
    await say(mysql_url, "UPDATE meta SET value = '78' WHERE name = 'oldest_schema'")
    assert "has schema 77" in await refusal(mysql_url)  # it was not set back


async def test_a_migration_that_was_cut_off_is_done_again(mysql_url: str) -> None:
    (migration,) = migrating.migrations()
    await say(mysql_url, *migration.statements[:5])
    store = await open_store(mysql_url)
    assert (await store.create([new()])).items == [Created(run_id="a-1")]
    await store.close()


async def test_two_that_start_at_once_make_one_store(mysql_url: str) -> None:
    stores = await asyncio.gather(*(open_store(mysql_url) for _ in range(4)))
    assert len({cast(Any, store)._database.store_id for store in stores}) == 1
    for store in stores:
        await store.close()


async def test_schemas_keep_tenants_apart(mysql_url: str) -> None:
    name = f"durable_{secrets.token_hex(6)}"
    one, other = await open_store(mysql_url), await open_store(f"{mysql_url}?schema={name}")
    try:
        await one.create([new()])
        assert (await other.get([InstanceRef(instance_id="a")])).items == [None]
    finally:
        await one.close()
        await other.close()
        await say(mysql_url, f"DROP DATABASE {name}")


async def test_a_payload_beyond_max_allowed_packet_is_refused_and_its_neighbours_are_not(
    mysql_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = driver.Link.prepare

    async def prepare(link: driver.Link) -> None:
        await plain(link)
        link.max_packet = 256 * 1024

    monkeypatch.setattr(driver.Link, "prepare", prepare)
    store = await open_store(mysql_url)
    await store.create([new()])
    verdicts = (
        await store.send([message("a", "1"), message("a", "2", body="x" * 300_000), message("a", "3")])
    ).items
    assert [type(one) for one in verdicts] == [Accepted, Refused, Accepted]
    refused = cast(Refused, verdicts[1])
    assert refused.reason == (
        "a statement of 0.3 MiB is more than the server takes; raise its max_allowed_packet (0.2 MiB)"
    )
    many = [message("a", f"many{n}", body="x" * 10_000) for n in range(100)]
    assert set((await store.send(many)).items) == {Accepted()}
    await store.close()
