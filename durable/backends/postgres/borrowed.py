"""Connections that are not the pool's: a caller's, and the one on which an activity writes in a transaction."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, TypeVar

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from durable.backends.postgres.address import Address
from durable.backends.postgres.failures import told_apart
from durable.backends.postgres.sessions import PostgresSession
from durable.backends.postgres.texts import Texts
from durable.backends.sql.server.session import Row, Session
from durable.errors import BackendError

R = TypeVar("R")

_WHERE = "SELECT current_database(), to_regclass($1) IS NOT NULL, inet_server_port()"
# A setting that lives as long as the transaction: it is gone if somebody ended it.
_MARK = "SELECT set_config('durable.held', $1, true)"
_MARKED = "SELECT coalesce(current_setting('durable.held', true), '')"


async def in_transaction_of(
    connection: Any, address: Address, texts: Texts, work: Callable[[Session], Awaitable[R]]
) -> R:
    """Do ``work`` in the open transaction of this connection: all of it, or nothing and the transaction stands.

    Raises ``TypeError`` for what is no asyncpg connection, `BackendError` for one that is to another database or has
    no transaction.
    """
    if not isinstance(connection, asyncpg.Connection | PoolConnectionProxy):
        kind = f"{type(connection).__module__}.{type(connection).__qualname__}"
        raise TypeError(f"connection= must be an asyncpg connection to {address.url}, not {kind}")
    if connection.is_closed():
        raise BackendError(f"{address.url}: the connection given is closed")
    if not connection.is_in_transaction():
        raise BackendError(
            f"{address.url}: the connection has no open transaction; write `async with connection.transaction():`"
        )
    with told_apart(address):
        await _must_be_the_same_database(connection, address, texts)
        async with _savepoint(connection):
            return await work(PostgresSession(connection, address, texts))


@contextlib.asynccontextmanager
async def _savepoint(connection: Any) -> AsyncIterator[None]:
    """All or nothing of the block, with limited patience for locks; the caller's own setting is back afterwards.

    Not asyncpg's ``transaction()``, which refuses to be inside one that was begun by a statement.
    """
    patience = await connection.fetchval("SELECT current_setting('lock_timeout')")
    await connection.execute("SAVEPOINT durable_call; SET LOCAL lock_timeout = '5s'")
    try:
        yield
    except BaseException:
        await connection.execute("ROLLBACK TO SAVEPOINT durable_call; RELEASE SAVEPOINT durable_call")
        raise
    await connection.fetchval("SELECT set_config('lock_timeout', $1, true)", patience)
    await connection.execute("RELEASE SAVEPOINT durable_call")


async def _must_be_the_same_database(connection: Any, address: Address, texts: Texts) -> None:
    database, there, _ = await connection.fetchrow(_WHERE, texts.table("instances"))
    if database != address.database or not there:
        raise BackendError(
            f"the connection is to the database {database!r}, and the store is {address.url}; a transaction can hold "
            "both only if they are the same"
        )


class _GuardedSession(PostgresSession):
    """Statements of the engine on a connection on which an activity may have ended the transaction.

    Outside of it each of them would be committed alone, at once.
    """

    def __init__(self, connection: Any, address: Address, texts: Texts, mark: str) -> None:
        super().__init__(connection, address, texts)
        self._mark = mark

    async def check(self) -> None:
        """`BackendError` if the transaction is not the one that was begun."""
        if self._connection.is_closed():
            raise BackendError(f"{self._address.url}: the connection of durable.transaction() is closed")
        with told_apart(self._address):
            mark = await self._connection.fetchval(_MARKED, timeout=self._address.call_seconds)
        if mark != self._mark:
            raise BackendError(
                f"{self._address.url}: durable.transaction() was ended by the activity itself; the engine does that"
            )

    async def _fetched(self, text: str, parameters: Sequence[Any]) -> list[Row]:
        await self.check()
        return await super()._fetched(text, parameters)

    async def _executed(self, text: str, parameters: Sequence[Any]) -> int:
        await self.check()
        return await super()._executed(text, parameters)


class PostgresHeld:
    """See `durable.backends.sql.server.session.HeldSession`."""

    def __init__(self, connection: Any, address: Address, texts: Texts, mark: str) -> None:
        self.connection = connection
        self._guarded = _GuardedSession(connection, address, texts, mark)
        self.session: Session = self._guarded
        self._address = address
        self._over = False

    @classmethod
    async def of(cls, connection: Any, address: Address, texts: Texts) -> PostgresHeld:
        """Take a connection with a transaction that was just begun."""
        mark = secrets.token_hex(8)
        with told_apart(address):
            await connection.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
            await connection.fetchval(_MARK, mark)
        return cls(connection, address, texts, mark)

    async def commit(self) -> None:
        """See `HeldSession`. `BackendError` if the activity has ended the transaction itself."""
        await self._guarded.check()
        with told_apart(self._address):
            await self.connection.execute("COMMIT", timeout=self._address.call_seconds)
        await self.rollback()

    async def rollback(self) -> None:
        """See `HeldSession`."""
        if self._over:
            return
        self._over = True
        with contextlib.suppress(Exception):
            await self.connection.close(timeout=1)
        self.connection.terminate()
