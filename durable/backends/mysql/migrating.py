"""The schema: made or brought up to date by plain SQL files, each statement of which may run twice.

There is no transaction around DDL. So one process at a time migrates, under a lock of the server's (``GET_LOCK``), and
writes the number of a file when all of it is done; a file that was cut off is run again from its beginning. When
nothing is to be done, nothing but a look is needed: a role without the right to CREATE runs the engine.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources

from durable.backends.mysql.address import Address
from durable.backends.mysql.driver import Link
from durable.backends.mysql.failures import Failure, explain
from durable.backends.mysql.literals import literal, name
from durable.backends.schema import OLDEST, check_schema, oldest_of
from durable.errors import BackendError

PATIENCE_SECONDS = 20
_MISSING = frozenset({1049, 1146})


@dataclass(frozen=True, slots=True)
class Migration:
    """A file of ``migrations/``."""

    number: int
    name: str
    statements: tuple[str, ...]
    oldest: int


def migrations() -> tuple[Migration, ...]:
    """All of them, in order."""
    folder = resources.files("durable.backends.mysql") / "migrations"
    found = []
    for file in sorted(folder.iterdir(), key=lambda file: file.name):
        if file.name.endswith(".sql"):
            script = file.read_text(encoding="utf-8")
            number, statements = int(file.name[:4]), tuple(_statements(script))
            found.append(Migration(number, file.name, statements, oldest_of([script])))
    return tuple(found)


def _statements(script: str) -> Iterator[str]:
    # A file has no semicolon but at the end of a statement's last line, and none in a comment.
    lines = [line.split("-- ")[0].rstrip() for line in script.splitlines() if not line.startswith("--")]
    for statement in "\n".join(lines).split(";\n"):
        if statement.strip(" \n;"):
            yield statement.strip(" \n;")


async def migrate(link: Link, address: Address) -> None:
    """Bring the schema up to date; at once if it is."""
    try:
        if (await _version(link, address) or 0) >= migrations()[-1].number:
            return
        await _alone(link, address)
    except Failure as failure:
        raise BackendError(explain(address.url, failure, address.user)) from failure


async def _alone(link: Link, address: Address) -> None:
    # Names of locks are the whole server's, and at most 64 characters long.
    lock = literal(f"durable {address.schema}"[:64])
    got = (await link.run(b"SELECT GET_LOCK(%b, %d)" % (lock, PATIENCE_SECONDS)))[0].rows[0][0]
    if got != 1:
        raise BackendError(
            f"{address.url}: another process has been migrating for {PATIENCE_SECONDS} s; try again"
        )
    try:
        await _bring_up_to_date(link, address)
    finally:
        if link.usable:
            await link.run(b"DO RELEASE_LOCK(%b)" % lock)


async def _bring_up_to_date(link: Link, address: Address) -> None:
    here = name(address.schema).encode()
    version = await _version(link, address)
    if version is None:
        await _make_database(link, here)
    await link.run(b"USE %b" % here)
    oldest = 0
    for migration in migrations():
        oldest = max(oldest, migration.oldest)
        if migration.number > (version or 0):
            for statement in migration.statements:
                await link.run(statement.encode())
            await _remember(link, migration.number, oldest)
    await link.run(b"USE %b" % name(address.database).encode())


async def _make_database(link: Link, here: bytes) -> None:
    found = await link.run(b"SHOW DATABASES LIKE %b" % literal(here.decode()[1:-1].replace("_", "\\_")))
    if not found[0].rows:
        await link.run(b"CREATE DATABASE IF NOT EXISTS %b DEFAULT CHARACTER SET utf8mb4" % here)


async def _remember(link: Link, number: int, oldest: int) -> None:
    """What the schema is, and which store this is: a connection of somebody else's is known by that."""
    await link.run(
        b"INSERT INTO meta (name, value) VALUES ('schema', %b), (%b, %b), ('store', %b) "
        b"ON DUPLICATE KEY UPDATE value = IF(name = 'store', value, VALUES(value))"
        % (literal(str(number)), literal(OLDEST), literal(str(oldest)), literal(secrets.token_hex(16)))
    )


async def _version(link: Link, address: Address) -> int | None:
    """Which migration was the last; ``None``: there is nothing yet. Raises for a schema that this code may not use."""
    found = await _meta(link, address, "schema")
    if found is None:
        return None
    return check_schema(address.url, found, migrations()[-1].number, await _meta(link, address, OLDEST))


async def _meta(link: Link, address: Address, entry: str) -> str | None:
    table = f"{name(address.schema)}.meta"
    try:
        rows = (await link.run(f"SELECT value FROM {table} WHERE name = '{entry}'".encode()))[0].rows
    except Failure as failure:
        if failure.number in _MISSING:
            return None
        raise
    return str(rows[0][0]) if rows else None


async def read_store_id(link: Link, address: Address) -> str:
    """The random name that the store was given when it was made."""
    return await _meta(link, address, "store") or ""
