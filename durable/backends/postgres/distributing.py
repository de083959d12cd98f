"""The tables of a store, laid out over the machines of a distributed PostgreSQL: Citus, or what speaks like it.

All rows of an instance have one `part`, and it leads every key: by it the tables are cut, and rows of one part stay on
one machine in all of them. The two tables that belong to no instance are on every machine. Nothing here moves or writes
rows; Citus does that.
"""

from __future__ import annotations

from typing import Any

import asyncpg

from durable.backends.postgres.address import Address
from durable.backends.postgres.failures import told_apart
from durable.backends.sql.server.tables import INSTANCES, TABLES
from durable.errors import BackendError

FUNCTION = "create_distributed_table"
_DONE = "SELECT logicalrelid::oid FROM pg_dist_partition"


def statements(schema: str) -> dict[str, str]:
    """One statement a table, by the tables' names, in the order in which they are to be made."""
    found = {}
    for table in TABLES.values():
        name = f'\'"{schema}"."{table.name}"\''
        if table.key[0] != "part":
            found[table.name] = f"SELECT create_reference_table({name})"
        elif table is INSTANCES:
            found[table.name] = f"SELECT create_distributed_table({name}, 'part', colocate_with => 'none')"
        else:
            beside = f'\'"{schema}"."{INSTANCES.name}"\''
            found[table.name] = f"SELECT create_distributed_table({name}, 'part', colocate_with => {beside})"
    return found


async def distribute(address: Address) -> list[str]:
    """Distribute what is not distributed yet; the store's tables must be there. Gives the statements that were issued.

    Raises `BackendError` for a server that cannot do it.
    """
    with told_apart(address):
        connection = await asyncpg.connect(
            host=[host for host, _ in address.hosts],
            port=[port for _, port in address.hosts],
            user=address.user,
            password=address.password,
            database=address.database,
            timeout=address.connect_seconds,
            ssl=address.tls(),
        )
        try:
            return await _issue(connection, address)
        finally:
            await connection.close()


async def _issue(connection: Any, address: Address) -> list[str]:
    if not await connection.fetchval("SELECT 1 FROM pg_proc WHERE proname = $1 LIMIT 1", FUNCTION):
        raise BackendError(
            f"{address.url}: the server has no function {FUNCTION}; CREATE EXTENSION citus, or name one that has it"
        )
    catalogue = await connection.fetchval("SELECT to_regclass('pg_dist_partition') IS NOT NULL")
    done = {row[0] for row in await connection.fetch(_DONE)} if catalogue else set()
    issued = []
    for name, statement in statements(address.schema).items():
        there = await connection.fetchval("SELECT to_regclass($1)::oid", f'"{address.schema}"."{name}"')
        if there not in done:
            await connection.execute(statement)
            issued.append(statement)
    return issued
