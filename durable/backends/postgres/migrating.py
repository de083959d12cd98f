"""The schema, and what must be right before a store may be used.

When two start together, one makes the schema and the other waits and finds it made (an advisory lock). A role that may
not change tables runs the store when all is there: then nothing is written here at all.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from importlib import resources
from typing import Any

from durable.backends.postgres.address import Address
from durable.backends.schema import OLDEST, check_schema, oldest_of
from durable.backends.sql.server.tables import TABLES
from durable.errors import BackendError

OLDEST_SERVER = (13, 0)
MARK = "durable"

_THERE = (
    "SELECT c.relname FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace "
    "WHERE n.nspname = $1 AND c.relname = ANY($2::text[]) AND c.relkind IN ('r', 'p', 'v')"
)
_SCHEMA = "SELECT 1 FROM pg_namespace WHERE nspname = $1"
_MAY = (
    "SELECT t.name || ': ' || p.privilege FROM unnest($1::text[]) AS t(name) "
    "CROSS JOIN (VALUES ('SELECT'), ('INSERT'), ('UPDATE'), ('DELETE')) AS p(privilege) "
    "WHERE NOT has_table_privilege(quote_ident($2) || '.' || quote_ident(t.name), p.privilege) ORDER BY 1"
)


@dataclass(frozen=True, slots=True)
class Migration:
    """A file of ``migrations/``: plain SQL that may run twice."""

    number: int
    name: str
    script: str


def migrations() -> tuple[Migration, ...]:
    """All of them, in order."""
    folder = resources.files("durable.backends.postgres") / "migrations"
    files = sorted(
        (file for file in folder.iterdir() if file.name.endswith(".sql")), key=lambda file: file.name
    )
    return tuple(Migration(int(file.name[:4]), file.name, file.read_text(encoding="utf-8")) for file in files)


async def migrate(connection: Any, address: Address) -> None:
    """Make the schema, or bring it up to date, or find that it may be used. `BackendError` if it may not."""
    _check_server(connection, address)
    if await _version(connection, address) < migrations()[-1].number:
        async with connection.transaction():
            await connection.execute("SELECT pg_advisory_xact_lock($1)", zlib.crc32(address.schema.encode()))
            await _make(connection, address)
    await _check_grants(connection, address)


def _check_server(connection: Any, address: Address) -> None:
    found = connection.get_server_version()
    if (found.major, found.minor) < OLDEST_SERVER:
        raise BackendError(
            f"{address.url}: the server is PostgreSQL {found.major}.{found.minor}, and {OLDEST_SERVER[0]} is the "
            "oldest that durable runs on"
        )


async def _make(connection: Any, address: Address) -> None:
    if not await connection.fetchval(_SCHEMA, address.schema):
        await connection.execute(f'CREATE SCHEMA IF NOT EXISTS "{address.schema}"')
    version = await _version(connection, address)
    if version >= migrations()[-1].number:
        return  # whoever had the lock has done it
    await connection.execute(
        f"SET LOCAL search_path TO \"{address.schema}\"; SET LOCAL client_min_messages = 'warning'"
    )
    for migration in migrations():
        if migration.number > version:
            await connection.execute(migration.script)
    oldest = oldest_of(migration.script for migration in migrations())
    facts = [("application", MARK), ("schema", str(migrations()[-1].number)), (OLDEST, str(oldest))]
    sql = "INSERT INTO meta (name, value) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET value = excluded.value"
    await connection.executemany(sql, facts)


async def _version(connection: Any, address: Address) -> int:
    """0: nothing is there. Raises `BackendError` for a schema that this release may not use."""
    rows = await connection.fetch(_THERE, address.schema, list(TABLES))
    names = {row[0] for row in rows}
    if not names:
        return 0
    found: dict[str, str] = {}
    if "meta" in names:
        columns = (
            "SELECT count(*) FROM information_schema.columns WHERE table_schema = $1 AND table_name = 'meta' "
            "AND column_name IN ('name', 'value')"
        )
        if await connection.fetchval(columns, address.schema) == 2:
            found = dict(
                await connection.fetch(f'SELECT name::text, value::text FROM "{address.schema}".meta')
            )
    if found.get("application") != MARK:
        raise BackendError(
            f"{address.url}: the schema {address.schema!r} has tables of another application "
            f"({', '.join(sorted(names))}); give the store a schema of its own, with ?schema="
        )
    return check_schema(address.url, found.get("schema", "0"), migrations()[-1].number, found.get(OLDEST))


async def _check_grants(connection: Any, address: Address) -> None:
    missing = [row[0] for row in await connection.fetch(_MAY, list(TABLES), address.schema)]
    if missing:
        raise BackendError(
            f"{address.url}: user {address.user!r} lacks grants in schema {address.schema!r}: {', '.join(missing[:4])}"
            f"{' and more' if len(missing) > 4 else ''}; GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA "
            f"{address.schema} TO {address.user}"
        )
