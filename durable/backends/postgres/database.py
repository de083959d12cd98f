"""Sessions for the store: see `durable.backends.sql.server.session.Database`."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

import asyncpg

from durable.backends.postgres import migrating
from durable.backends.postgres.address import Address
from durable.backends.postgres.borrowed import PostgresHeld, in_transaction_of
from durable.backends.postgres.failures import explained, told_apart
from durable.backends.postgres.listening import Wire
from durable.backends.postgres.pool import Pool
from durable.backends.postgres.sessions import PostgresSession
from durable.backends.postgres.standstill import APPLICATION_NAME, Standstill
from durable.backends.postgres.texts import TAG_TEST, Texts
from durable.backends.sql.server.session import Again, Culprit, Ended, HeldSession, Session, Topics

R = TypeVar("R")

RESERVED_CONNECTIONS = 2
STATEMENTS_KEPT = 500
LOCK_SECONDS = 5
IDLE_IN_TRANSACTION_SECONDS = 5
"""After which the server ends a transaction of a process that stands still, so that it holds no rows."""

# Whatever the tables' sizes seem to be: a plan that reads a whole table is never the right one here. Settings of the
# connection are no more than advice; nothing that is written depends on them.
SETTINGS = {
    "application_name": APPLICATION_NAME,
    "default_transaction_isolation": "read committed",
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "jit": "off",
    "plan_cache_mode": "force_generic_plan",
    "lock_timeout": f"{LOCK_SECONDS}s",
    "idle_in_transaction_session_timeout": f"{IDLE_IN_TRANSACTION_SECONDS}s",
}
# Of what is not a batch: it may take its time, as `Standstill` does not allow.
PLAIN = {"application_name": f"{APPLICATION_NAME} (other)"}
BEGIN = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE"
LAZY = "; SET LOCAL synchronous_commit = off"
# A statement that names one part could be planned, while the tables are small, as a walk through all of that part; such
# a plan must not be kept when they have grown.
SETTINGS_BY_PART = {**SETTINGS, "plan_cache_mode": "force_custom_plan"}


class PostgresDatabase:
    """See `Database`. ``clock``: for tests."""

    tag_test = TAG_TEST

    def __init__(self, address: Address, clock: Callable[[], int] | None = None) -> None:
        self.url = address.url
        self._address = address
        self.group_by_part = address.group_by_part
        self.one_statement = address.one_statement and not address.group_by_part
        self._texts = Texts(address.schema, clock, by_part=address.group_by_part)
        reserved = min(RESERVED_CONNECTIONS, address.pool_size - 1)
        self._pool = Pool(address, address.pool_size - reserved, self.connect)
        self._reserved = Pool(address, reserved, self.connect)
        self._standstill = Standstill()
        self._wire = Wire(address, self._connect_wire) if address.wakeups and not address.pgbouncer else None
        self.hears = self._wire is not None
        self._settings = SETTINGS_BY_PART if address.group_by_part else SETTINGS
        # Behind PgBouncer settings hold for a transaction only.
        here = "".join(f"; SET LOCAL {name} = '{value}'" for name, value in self._settings.items())
        self._begin = BEGIN + (here if address.pgbouncer else "")

    async def connect(self, settings: Mapping[str, str] | None = None) -> Any:
        """A new connection. `BackendError` says why there is none, in one line."""
        address = self._address
        try:
            return await asyncpg.connect(
                host=[host for host, _ in address.hosts],
                port=[port for _, port in address.hosts],
                target_session_attrs="primary" if len(address.hosts) > 1 else None,
                user=address.user,
                password=address.password,
                database=address.database,
                timeout=address.connect_seconds,
                ssl=address.tls(),
                statement_cache_size=0 if address.pgbouncer else STATEMENTS_KEPT,
                max_cached_statement_lifetime=0,
                server_settings=None if address.pgbouncer else dict(settings or self._settings),
            )
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError, EOFError) as error:
            raise explained(address, error) from error

    async def _connect_wire(self) -> Any:
        """Hints need not reach the disk: each would wait for it like a commit."""
        return await self.connect({**PLAIN, "synchronous_commit": "off"})

    async def transact(
        self, work: Callable[[Session], Awaitable[R]], *, reserved: bool = False, lazy: bool = False
    ) -> R:
        """See `Database`."""
        async with (self._reserved if reserved else self._pool).lent() as loan:
            connection = loan.connection
            try:
                await self._end_standstills(connection)
                with told_apart(self._address):
                    await self._say(connection, self._begin + (LAZY if lazy else ""))
                result = await work(PostgresSession(connection, self._address, self._texts))
                with told_apart(self._address):
                    await self._say(connection, "COMMIT")
            except (Again, Culprit):
                loan.sound = await self._rolled_back(connection)
                raise
            # After any other error the connection is not lent again: its server may be one that only reads by now.
            loan.sound = True
            return result

    async def _end_standstills(self, connection: Any) -> None:
        if self._standstill.is_due:
            with told_apart(self._address):
                await self._standstill.end(connection, self._address.call_seconds)

    async def _say(self, connection: Any, text: str) -> None:
        await connection.execute(text, timeout=self._address.call_seconds)

    async def _rolled_back(self, connection: Any) -> bool:
        if connection.is_closed():
            return False
        with contextlib.suppress(Exception):
            await connection.execute("ROLLBACK", timeout=self._address.connect_seconds)
            return not connection.is_in_transaction()
        return False

    async def read(self, work: Callable[[Session], Awaitable[R]]) -> R:
        """See `Database`. Behind PgBouncer it is a transaction: else each statement may go to another process."""
        if self._address.pgbouncer:
            return await self.transact(work)
        async with self._pool.lent() as loan:
            result = await work(PostgresSession(loan.connection, self._address, self._texts))
            loan.sound = True
            return result

    async def alone(self, work: Callable[[Session], Awaitable[R]]) -> R:
        """See `Database`. Behind PgBouncer it needs the settings, and those a transaction."""
        if self._address.pgbouncer:
            return await self.transact(work)
        async with self._pool.lent() as loan:
            connection = loan.connection
            try:
                await self._end_standstills(connection)
                result = await work(PostgresSession(connection, self._address, self._texts))
            except (Again, Culprit):
                loan.sound = not connection.is_closed()
                raise
            loan.sound = True
            return result

    async def borrow(self, connection: Any, work: Callable[[Session], Awaitable[R]]) -> R:
        """See `Database`."""
        return await in_transaction_of(connection, self._address, self._texts, work)

    async def hold(self) -> HeldSession:
        """See `Database`. On a connection that is opened for it, so that activities take none from the engine, and
        without the engine's settings, which are not meant for what an activity asks.
        """
        connection = await self.connect(PLAIN)
        try:
            with told_apart(self._address):
                await self._say(connection, BEGIN)
            return await PostgresHeld.of(connection, self._address, self._texts)
        except BaseException:
            connection.terminate()
            raise

    async def migrate(self) -> None:
        """See `Database`."""
        async with self._pool.lent() as loan:
            with told_apart(self._address):
                await migrating.migrate(loan.connection, self._address)
            loan.sound = True

    def announce(self, topics: Topics, ended: Ended) -> None:
        """See `Database`."""
        if self._wire is not None:
            self._wire.tell(topics, ended)

    def listen(self, hear: Callable[[Topics, Ended], None]) -> None:
        """See `Database`."""
        if self._wire is not None:
            self._wire.listen(hear)

    async def close(self) -> None:
        """See `Database`."""
        if self._wire is not None:
            await self._wire.close()
        await asyncio.gather(self._pool.close(), self._reserved.close())
