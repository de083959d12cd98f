"""Transactions that are not the store's own: of callers (``connection=``), of activities (``durable.transaction()``).

A caller's connection is checked (driver, character set, open transaction, same store), is lent our ``sql_mode`` and
lock time-out for the time of the call, and gets a savepoint: the call happens whole, or not at all and the transaction
stands. After a deadlock it does not: the server has rolled all of it back.

In a transaction of the default isolation, REPEATABLE READ, what was read first is read for ever. There the call reads
with shared locks, which see the newest. Such a transaction also locks the gaps between rows, so that others who make
instances may have to wait for it: READ COMMITTED is the better choice for transactions that are not short.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from durable.backends.mysql.driver import SQL_MODE, Link, Result, character_set, is_closed, is_connection
from durable.backends.mysql.failures import DEADLOCK, Failure, TooLarge, explain
from durable.backends.mysql.literals import literal
from durable.backends.mysql.sessions import LinkSession, translated
from durable.backends.sql.server.session import Again, Culprit, Session
from durable.errors import BackendError

if TYPE_CHECKING:
    from durable.backends.mysql.database import MysqlDatabase

R = TypeVar("R")
LOCK_SECONDS = 1
"""How long a statement waits for a lock; the call is then repeated, for 5 s."""
CALL_SECONDS = 30.0
"""How long a statement on a connection of a caller's may take; then it is closed, since its state is not known."""

_GONE = frozenset({1049, 1142, 1146})


async def borrow(database: MysqlDatabase, connection: Any, work: Callable[[Session], Awaitable[R]]) -> R:
    """Do the work in the open transaction of this connection. See `Database.borrow`."""
    _must_be_ours(database, connection)
    link = Link(connection, CALL_SECONDS)
    link.max_packet = await _same_store(database, link)
    back, shares = await _lend(database, link)
    session = LinkSession(link, database.statements, database.url, shares=shares)
    try:
        result = await work(session)
    except asyncio.CancelledError:
        link.discard()
        raise
    except BaseException as error:
        await _undo(database, link, back, error)
        raise
    await _say(database, link, b"RELEASE SAVEPOINT durable_call;" + back)
    return result


def _must_be_ours(database: MysqlDatabase, connection: Any) -> None:
    if not is_connection(connection):
        kind = f"{type(connection).__module__}.{type(connection).__qualname__}"
        raise TypeError(
            f"connection= must be an aiomysql (or asyncmy) connection to {database.url}, not {kind}"
        )
    if is_closed(connection):
        raise BackendError(f"{database.url}: the connection given is closed")
    if (charset := character_set(connection)) != "utf8mb4":
        raise BackendError(
            f"{database.url}: the connection given speaks {charset}; connect with charset='utf8mb4'"
        )
    if connection.get_autocommit() and not Link(connection, CALL_SECONDS).in_transaction:
        raise BackendError(
            f"{database.url}: the connection is in autocommit mode and has no open transaction; call begin() first, "
            "and commit() after your own statements"
        )


async def _same_store(database: MysqlDatabase, link: Link) -> int:
    table = database.statements.table("meta").encode()
    statement = b"SELECT value, @@max_allowed_packet FROM %b WHERE name = 'store' LOCK IN SHARE MODE" % table
    try:
        rows = (await link.run(statement))[0].rows
    except Failure as failure:
        if failure.number in _GONE:
            rows = []
        else:
            raise BackendError(explain(database.url, failure)) from failure
    if not rows or rows[0][0] != database.store_id:
        raise BackendError(
            f"the connection is to another server or database than {database.url}; a transaction can hold both only if "
            "they are on the same server"
        )
    return int(rows[0][1])


async def _lend(database: MysqlDatabase, link: Link) -> tuple[bytes, bool]:
    """Set what statements rely on; gives the statement that sets it back, and whether reads need locks."""
    results = await _say(
        database,
        link,
        b"SELECT @@sql_mode, @@innodb_lock_wait_timeout; SHOW VARIABLES WHERE Variable_name IN "
        b"('transaction_isolation', 'tx_isolation');"
        b"SET SESSION sql_mode = '%b', innodb_lock_wait_timeout = %d; SAVEPOINT durable_call"
        % (SQL_MODE.encode(), LOCK_SECONDS),
    )
    mode, seconds = results[0].rows[0]
    isolation = {str(value) for _, value in results[1].rows}
    back = b"SET SESSION sql_mode = %b, innodb_lock_wait_timeout = %d" % (literal(mode), seconds)
    return back, isolation != {"READ-COMMITTED"}


async def _undo(database: MysqlDatabase, link: Link, back: bytes, error: BaseException) -> None:
    """Back to the savepoint. Raises if that is no longer there."""
    if not link.usable:
        return
    deadlocked = isinstance(error.__cause__, Failure) and error.__cause__.number == DEADLOCK
    if deadlocked:
        with contextlib.suppress(Failure):
            await link.run(back)
        raise BackendError(
            f"{database.url}: the server has rolled back all of your transaction (deadlock); repeat it"
        ) from error
    await _say(database, link, b"ROLLBACK TO SAVEPOINT durable_call; RELEASE SAVEPOINT durable_call;" + back)


async def _say(database: MysqlDatabase, link: Link, statement: bytes) -> list[Any]:
    try:
        return list(await link.run(statement))
    except Failure as failure:
        raise BackendError(explain(database.url, failure)) from failure


_BEGIN = b"START TRANSACTION; SAVEPOINT durable_transaction"
_STILL_THERE = (
    b"RELEASE SAVEPOINT durable_transaction; SAVEPOINT durable_transaction; SET SESSION sql_mode = '%b';"
    % SQL_MODE.encode()
)
_COMMIT = (b"RELEASE SAVEPOINT durable_transaction", b"COMMIT")
_NO_SAVEPOINT = 1305


class _HeldSession(LinkSession):
    """What is repeated elsewhere is an end here: we cannot repeat what the activity wrote in its transaction.

    Each statement goes out behind one that fails, and so ends all, if the transaction that was begun is no more.
    """

    async def run_all(self, statements: Sequence[bytes]) -> list[Result]:
        """Statements in one packet."""
        if not self.link.usable:
            raise BackendError(f"{self.url}: the connection of durable.transaction() is gone")
        try:
            return (await self.link.run(_STILL_THERE + b";".join(statements)))[-len(statements) :]
        except Failure as failure:
            raise self._ended(failure) from failure
        except TooLarge as error:
            raise Culprit(str(error)) from error

    async def commit(self) -> None:
        """End it."""
        await self.run_all(_COMMIT)

    def _ended(self, failure: Failure) -> Exception:
        if failure.number == _NO_SAVEPOINT:
            return BackendError(
                f"{self.url}: durable.transaction() was ended by the activity itself; leave COMMIT and ROLLBACK to the "
                "engine, and DDL (which commits) to others"
            )
        error = translated(failure, self.url)
        if isinstance(error, Again):
            return BackendError(f"{self.url}: durable.transaction() was ended by the server: {failure}")
        return error


class Held:
    """A transaction on a connection of its own, open while an activity writes in it. See `HeldSession`.

    A savepoint marks its beginning: if it is gone, the activity has ended the transaction behind our back, and nothing
    may be written as if it had not.
    """

    connection: Any
    session: Session

    def __init__(self, database: MysqlDatabase) -> None:
        self._database = database
        self._stack = contextlib.AsyncExitStack()
        self._link: Link

    async def begin(self) -> None:
        """Open the connection and the transaction."""
        self._link = await self._stack.enter_async_context(self._database.pool.fresh())
        self.connection = self._link.raw
        self.session = session = _HeldSession(self._link, self._database.statements, self._database.url)
        self._commit = session.commit
        try:
            await self._link.end_when_idle(0)  # an activity takes as long as it takes
            await self._link.run(_BEGIN)
        except Failure as failure:
            await self._stack.aclose()
            raise BackendError(explain(self._database.url, failure)) from failure
        except BaseException:
            await self._stack.aclose()
            raise

    async def commit(self) -> None:
        """See the protocol."""
        try:
            await self._commit()
        finally:
            await self._stack.aclose()

    async def rollback(self) -> None:
        """See the protocol. Hanging up is enough: the server rolls back what was open."""
        await self._stack.aclose()
