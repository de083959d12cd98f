"""The database of a store: fulfils `durable.backends.sql.server.session.Database`.

Every connection is in autocommit mode, and a transaction is begun by a word (in one packet with its first statement):
so reads outside of a transaction stand alone and end by themselves.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from durable.backends.mysql import borrowing
from durable.backends.mysql.address import Address
from durable.backends.mysql.driver import Link, connect
from durable.backends.mysql.failures import Failure, explain
from durable.backends.mysql.migrating import migrate, read_store_id
from durable.backends.mysql.pool import Pool
from durable.backends.mysql.sessions import LinkSession
from durable.backends.mysql.statements import Statements
from durable.backends.sql.server.session import Ended, Session, Topics
from durable.errors import BackendError

R = TypeVar("R")
BEGIN = b"START TRANSACTION;"
LEAST_MYSQL = (8, 0, 19)
LEAST_MARIADB = (10, 6, 0)


class MysqlDatabase:
    """One database of a server. ``clock`` (for tests) stands for the server's."""

    tag_test = "JSON_CONTAINS(i.tags, JSON_OBJECT(?, ?))"
    hears = False
    group_by_part = False
    one_statement = False

    def __init__(self, address: Address, clock: Callable[[], int] | None = None) -> None:
        self.url = address.url
        self.address = address
        self.statements = Statements(address.schema, clock)
        self.store_id = ""
        self.pool = Pool(
            self._connect,
            url=address.url,
            size=address.pool_size,
            idle_seconds=address.pool_idle_seconds,
            patience_seconds=address.call_seconds,
        )

    async def open(self) -> None:
        """See whether this server will do, and make or bring up to date the schema."""
        await self.migrate()

    async def migrate(self) -> None:
        """See the protocol."""
        async with self.pool.link() as link:
            await migrate(link, self.address)
            self.store_id = await read_store_id(link, self.address)

    async def _connect(self) -> Link:
        try:
            link = await connect(self.address)
        except Failure as failure:
            raise BackendError(explain(self.url, failure, self.address.user)) from failure
        if link.version.number < (least := LEAST_MARIADB if link.version.mariadb else LEAST_MYSQL):
            link.discard()
            wanted = ".".join(map(str, least))
            kind = "MariaDB" if link.version.mariadb else "MySQL"
            raise BackendError(
                f"{self.url} is {kind} {link.version.text}, and this store needs {wanted} or later"
            )
        return link

    # --- sessions

    async def transact(
        self, work: Callable[[Session], Awaitable[R]], *, reserved: bool = False, lazy: bool = False
    ) -> R:
        """See the protocol. How soon a commit reaches the disk is the whole server's setting: ``lazy`` says nothing."""
        async with self.pool.link("leases" if reserved else "work") as link:
            session = LinkSession(link, self.statements, self.url, begin=BEGIN)
            try:
                result = await work(session)
                await session.commit()
            except asyncio.CancelledError:
                link.discard()
                raise
            except BaseException:
                await roll_back(link)
                raise
            return result

    async def read(self, work: Callable[[Session], Awaitable[R]]) -> R:
        """See the protocol."""
        async with self.pool.link() as link:
            try:
                return await work(LinkSession(link, self.statements, self.url))
            except asyncio.CancelledError:
                link.discard()
                raise

    async def alone(self, work: Callable[[Session], Awaitable[R]]) -> R:
        """See the protocol. Here no statement writes more than one table."""
        return await self.transact(work)

    async def borrow(self, connection: Any, work: Callable[[Session], Awaitable[R]]) -> R:
        """See the protocol."""
        return await borrowing.borrow(self, connection, work)

    async def hold(self) -> borrowing.Held:
        """See the protocol."""
        held = borrowing.Held(self)
        await held.begin()
        return held

    # --- others

    def announce(self, topics: Topics, ended: Ended) -> None:
        """See the protocol. Others poll."""

    def listen(self, hear: Callable[[Topics, Ended], None]) -> None:
        """See the protocol. Nothing is ever heard."""

    async def close(self) -> None:
        """See the protocol."""
        await self.pool.close()


async def roll_back(link: Link) -> None:
    """End the transaction without a trace; a connection with which that cannot be done is thrown away."""
    if not link.usable:
        return
    try:
        await link.run(b"ROLLBACK")
    except Exception:
        link.discard()
