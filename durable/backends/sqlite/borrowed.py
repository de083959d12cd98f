"""A connection that is not ours: what of it may be used, and how work is done on it in the transaction of its owner.

It is an aiosqlite connection, or a plain `sqlite3.Connection` of the thread that calls. The whole work of a call is one
step on the connection's own thread, so that nothing of the owner's comes between its statements. Neither module of the
standard library nor aiosqlite has a public way to run a function there: `_runner` is the one place that uses
``aiosqlite.Connection._execute`` (and a test says so when that goes).

- *Which transaction.* The one that is open. If none is, one is begun as the driver does by itself before a statement
  that writes, and the owner's ``commit()`` ends it. A connection in autocommit mode (``isolation_level=None``, or
  ``autocommit=True``) has nothing that would end it: there it is an error.
- *The write lock comes first*, before anything is read: what is judged is then the newest there is. A transaction that
  has read already, and was overtaken since by another writer, can never write; it is told so at once.
- *Waiting* for the lock is done between attempts, on the loop, so that a cancelled call leaves nothing behind.
- *Checkpoints* (see `crews`) are no longer made by this connection, where SQLite is too old for that to be safe.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import sqlite3
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, TypeVar

import aiosqlite

from durable.backends.sqlite.opening import WAL_RESET_FIXED, Address, explain, is_busy
from durable.errors import BackendError

R = TypeVar("R")
Work = Callable[[sqlite3.Connection], R]
Attempt = Callable[[], Awaitable[R]]

# Writes nothing, but takes the write lock.
_LOCK = "UPDATE roles SET role = role WHERE 0"


async def in_transaction_of(connection: Any, address: Address, seconds: float, work: Work[R]) -> R:
    """Do ``work`` in the open transaction of this connection: all of it, or nothing and the transaction stands.

    Raises ``TypeError`` for what is no SQLite connection, `BackendError` for one that is to another file, has no
    transaction, or does not get the write lock within ``seconds``.
    """
    run = _runner(connection, address)
    return await patiently(lambda: run(lambda db: _enter(db, address, work)), address.url, seconds)


def _runner(connection: Any, address: Address) -> Callable[[Work[Any]], Awaitable[Any]]:
    """Runs a function on the thread of the connection."""
    if isinstance(connection, aiosqlite.Connection):

        async def there(work: Work[Any]) -> Any:
            try:
                db = connection._conn
            except ValueError as error:
                raise BackendError(f"{address.url}: the connection given is closed") from error
            return await connection._execute(work, db)  # type: ignore[no-untyped-call]

        return there
    if isinstance(connection, sqlite3.Connection):

        async def here(work: Work[Any]) -> Any:
            return work(connection)

        return here
    kind = f"{type(connection).__module__}.{type(connection).__qualname__}"
    raise TypeError(f"connection= must be an aiosqlite connection to {address.url}, not {kind}")


async def patiently(attempt: Attempt[R], url: str, seconds: float) -> R:
    """Try until nobody else holds the write lock, for so long; errors of SQLite come out as `BackendError`."""
    loop = asyncio.get_running_loop()
    give_up = loop.time() + seconds
    delay = 0.001
    while True:
        try:
            return await attempt()
        except sqlite3.Error as error:
            if getattr(error, "sqlite_errorname", "") == "SQLITE_BUSY_SNAPSHOT":
                raise BackendError(
                    f"{url}: others have written since this transaction began to read, so it cannot write any more; "
                    "roll it back and repeat it, beginning with BEGIN IMMEDIATE"
                ) from error
            if not is_busy(error):
                raise BackendError(explain(url, error)) from error
            if loop.time() >= give_up:
                raise BackendError(
                    f"{url} was locked by another connection for {seconds:g} s; end what holds it and try again"
                ) from error
        await asyncio.sleep(delay * random.uniform(0.5, 1.0))
        delay = min(delay * 2, 0.025)


# --- on the thread of the connection


def _enter(db: sqlite3.Connection, address: Address, work: Work[R]) -> R:
    with as_ours(db):
        _must_be_the_same_file(db, address)
        begun = _begin(db, address)
        db.execute("SAVEPOINT durable_call")
        try:
            db.execute(_LOCK)
            _leave_checkpoints_to_the_writer(db)
            result = work(db)
        except BaseException:
            if db.in_transaction:  # after some errors SQLite itself rolls all of it back
                db.execute("ROLLBACK" if begun else "ROLLBACK TO durable_call")
            if db.in_transaction:
                db.execute("RELEASE durable_call")
            raise
        db.execute("RELEASE durable_call")
        return result


@contextlib.contextmanager
def as_ours(db: sqlite3.Connection) -> Iterator[None]:
    """Meanwhile rows are tuples, texts are texts, and a lock is not waited for."""
    rows, texts = db.row_factory, db.text_factory
    db.row_factory, db.text_factory = None, str
    busy = db.execute("PRAGMA busy_timeout").fetchone()[0]
    try:
        db.execute("PRAGMA busy_timeout = 0")
        yield
    finally:
        db.execute(f"PRAGMA busy_timeout = {busy}")
        db.row_factory, db.text_factory = rows, texts


def _must_be_the_same_file(db: sqlite3.Connection, address: Address) -> None:
    path = next((file for _, name, file in db.execute("PRAGMA database_list") if name == "main"), "")
    try:
        same = bool(path) and os.path.samefile(path, address.path)  # noqa: PTH121  (a stat opens nothing)
    except OSError:
        same = False
    if not same:
        raise BackendError(
            f"the connection is to {path or 'a database in memory'}, and the store is {address.url}; a transaction "
            "can hold both only if they are the same file"
        )


def _begin(db: sqlite3.Connection, address: Address) -> bool:
    if db.in_transaction:
        return False
    if db.isolation_level is None or getattr(db, "autocommit", None) is True:
        raise BackendError(
            f"{address.url}: the connection is in autocommit mode and has no open transaction; execute BEGIN IMMEDIATE "
            "first, and COMMIT after your own statements"
        )
    db.execute("BEGIN IMMEDIATE")
    return True


def _leave_checkpoints_to_the_writer(db: sqlite3.Connection) -> None:
    if sqlite3.sqlite_version_info < WAL_RESET_FIXED:
        db.execute("PRAGMA wal_autocheckpoint = 0")
