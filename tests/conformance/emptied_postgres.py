"""The PostgreSQL store under test, in a database that all tests of a file share. Not a file of tests."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import asyncpg

from durable.backends.contract import Backend
from durable.backends.postgres import open_store
from durable.backends.sql.server.tables import META, TABLES
from durable.testing import servers
from durable.testing.conformance import ManualClock, StoreUnderTest
from tests.conformance.wounds import SQL

_FILLED = [name for name in TABLES if name != META.name]
EMPTY = ";".join(f"DELETE FROM {name}" for name in _FILLED)
SEE_THEM_EMPTY = f"VACUUM (ANALYZE) {', '.join(_FILLED)}"


class Postgres(StoreUnderTest):
    """In a database that may have been used before: the first `open` empties it, which is quicker than a new one."""

    keeps_data = True
    damages = frozenset(SQL)

    def __init__(self, url: str, *, taken_for_empty: bool = False, **options: str) -> None:
        """``taken_for_empty``: the planner has seen the tables empty, and not since."""
        self.taken_for_empty = taken_for_empty
        self.options = options
        self.clock = ManualClock()
        self.url = url
        self.is_empty = False

    async def open(self) -> Backend:
        store = await open_store(self.url, clock=self.clock, pool_size=4, **self.options)
        if not self.is_empty:
            self.is_empty = True
            await self.execute(EMPTY)
            if self.taken_for_empty:
                await self.execute(SEE_THEM_EMPTY)
        return store

    async def damage(self, store: Backend, kind: str, instance_id: str) -> None:
        await self.execute(";".join(SQL[kind]).format(id=instance_id))

    async def execute(self, statements: str) -> None:
        connection = await asyncpg.connect(self.url)
        try:
            await connection.execute(statements)
        finally:
            await connection.close()


def a_database(server: servers.Server) -> Iterator[str]:
    """For a fixture: the URL of a database, for as long as its tests take."""
    url = asyncio.run(server.create_database())
    yield url
    asyncio.run(server.drop_database(url))
