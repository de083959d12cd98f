"""The two connections of a store, each on a thread of its own: one writes, one reads.

The writer does all waiting calls in one transaction, each under a savepoint, so that one that fails does not hurt the
others; when the commit fails, nobody is told that anything was done. The reader never waits for a commit, and sees all
that was committed when it was asked.

Checkpoints of the write-ahead log: no connection makes them by itself. The writer makes them with a second connection
*while it holds the write lock*. So at most one process checkpoints at a time, a killed one leaves nothing behind, and
nobody can restart the log meanwhile, which is what corrupts a database below SQLite 3.51.3.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import time
from collections.abc import Callable
from typing import Any

from durable.backends.sqlite.lane import Call
from durable.backends.sqlite.opening import (
    Address,
    connect,
    explain,
    explained,
    migrate,
    patiently,
)
from durable.errors import BackendError

CHECKPOINT_AFTER_CHANGES = 4_000
"""Rows changed by this process, after which it makes a checkpoint. A row is rarely more than a page of 4 KiB."""


class Clock:
    """A clock that does not go back, for all threads of this process."""

    def __init__(self, clock: Callable[[], int] | None = None) -> None:
        self._clock = clock or _host_clock
        self._last_us = 0
        self._lock = threading.Lock()

    def now_us(self) -> int:
        """Microseconds since the epoch."""
        with self._lock:
            self._last_us = max(self._last_us, self._clock())
            return self._last_us


def _host_clock() -> int:
    return time.time_ns() // 1000


class Transaction:
    """What the work of a call is given: the connection, the time, and what to ring for when all is committed."""

    __slots__ = ("db", "ended", "now_us", "topics", "url")

    def __init__(self, db: sqlite3.Connection, now_us: int, url: str) -> None:
        self.db = db
        self.now_us = now_us
        self.url = url
        self.topics: set[str] = set()
        self.ended: set[str] = set()


Ring = Callable[[set[str], set[str] | None], None]
"""Rings for topics; with the instances that ended here, or ``None``: any may have."""
ALL_TOPICS = frozenset({"workflow", "activity", "question", "closed", "reply"})


class Writer:
    """The connection that writes."""

    def __init__(self, address: Address, clock: Clock, patience_seconds: float, ring: Ring) -> None:
        self._address = address
        self._clock = clock
        self._patience = patience_seconds
        self._ring = ring
        self._db: sqlite3.Connection
        self._checkpoints: sqlite3.Connection | None = None
        self._identity: tuple[int, int]
        self._heard = 0
        self._syncs = True
        self._checkpointed_changes = 0

    def open(self) -> None:
        """Open, and make or migrate the schema."""
        self._db = connect(self._address, self._patience)
        try:
            migrate(self._db, self._address, self._patience)
            self._identity = self._identify()
            self._heard = self._data_version()
        except BaseException:
            self._db.close()
            raise

    def close(self) -> None:
        """Let go of the file. The last connection to do so empties the log, alone by SQLite's own exclusive lock."""
        for db in (self._checkpoints, self._db):
            if db is not None:
                with contextlib.suppress(sqlite3.Error):
                    db.close()

    # --- calls

    def run(self, calls: list[Call[Any]]) -> None:
        """All in one transaction."""
        try:
            topics, ended = self._transact(calls)
        except sqlite3.Error as error:
            self._fail(calls, BackendError(explain(self._address.url, error)))
        except BaseException as error:
            self._fail(calls, error)
        else:
            if topics:
                self._ring(topics, ended)

    def _transact(self, calls: list[Call[Any]]) -> tuple[set[str], set[str] | None]:
        db = self._db
        self._see_that_the_file_is_there()
        self._sync_at_commit(any(call.durable for call in calls))
        patiently(lambda: db.execute("BEGIN IMMEDIATE"), self._address.url, self._patience)
        transaction = Transaction(db, self._clock.now_us(), self._address.url)
        for call in calls:
            self._do(call, transaction)
            if not db.in_transaction:  # after some errors SQLite itself rolls all of it back
                raise call.error or BackendError(f"{self._address.url}: the transaction was lost")
        db.execute("COMMIT")
        if (version := self._data_version()) != self._heard:
            self._heard = version
            return set(ALL_TOPICS), None
        return transaction.topics, transaction.ended

    def _sync_at_commit(self, wanted: bool) -> None:
        """Whether the next commit waits for the disk. What it does not wait for goes there with the next that does."""
        if wanted is not self._syncs:
            self._db.execute(f"PRAGMA synchronous = {'FULL' if wanted else 'NORMAL'}")
            self._syncs = wanted

    def _do(self, call: Call[Any], transaction: Transaction) -> None:
        db = transaction.db
        db.execute("SAVEPOINT call")
        try:
            call.result = call.work(transaction)
        except BaseException as error:
            call.error = error
            if isinstance(error, sqlite3.Error):
                call.error = BackendError(explain(self._address.url, error))
                call.error.__cause__ = error
            if db.in_transaction:
                db.execute("ROLLBACK TO call")
        if db.in_transaction:
            db.execute("RELEASE call")

    def _fail(self, calls: list[Call[Any]], error: BaseException) -> None:
        # Also those whose work went well: nothing was committed, or nobody knows.
        for call in calls:
            call.result, call.error = None, error
        if self._db.in_transaction:
            with contextlib.suppress(sqlite3.Error):
                self._db.execute("ROLLBACK")

    # --- others

    def idle(self) -> None:
        """Listen for other processes."""
        with contextlib.suppress(sqlite3.Error):
            if (version := self._data_version()) != self._heard:
                self._heard = version
                self._ring(set(ALL_TOPICS), None)

    def _data_version(self) -> int:
        """A number that changes when another connection has committed; ours does not change it."""
        return int(self._db.execute("PRAGMA data_version").fetchone()[0])

    def _identify(self) -> tuple[int, int]:
        found = os.stat(self._address.path)  # noqa: PTH116  (a stat opens nothing, so it drops no lock)
        return found.st_dev, found.st_ino

    def _see_that_the_file_is_there(self) -> None:
        try:
            there = self._identify() == self._identity
        except OSError:
            there = False
        if not there:
            raise BackendError(
                f"{self._address.url} was deleted or replaced while it was open; what is written now would be lost, "
                "so nothing is: restart with the right file"
            )

    # --- checkpoints

    def after(self) -> None:
        """Make a checkpoint when much has been written."""
        if self._db.total_changes - self._checkpointed_changes >= CHECKPOINT_AFTER_CHANGES:
            with contextlib.suppress(sqlite3.Error, BackendError):  # it is tried again after the next batch
                self.checkpoint()

    def checkpoint(self) -> None:
        """Copy the log into the database, under the write lock. Nothing happens if another process has that."""
        if self._checkpoints is None:
            self._checkpoints = connect(self._address, self._patience)
        try:
            self._db.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            return
        try:
            self._checkpoints.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            self._checkpointed_changes = self._db.total_changes
        finally:
            self._db.execute("ROLLBACK")


class Reader:
    """The connection that reads."""

    def __init__(self, address: Address, clock: Clock, patience_seconds: float) -> None:
        self._address = address
        self._clock = clock
        self._patience = patience_seconds
        self._db: sqlite3.Connection

    def open(self) -> None:
        """Open."""
        self._db = connect(self._address, self._patience)
        with explained(self._address.url):
            self._db.execute("PRAGMA query_only = ON")

    def close(self) -> None:
        """Let go of the file."""
        with contextlib.suppress(sqlite3.Error):
            self._db.close()

    def run(self, calls: list[Call[Any]]) -> None:
        """Each call from one snapshot, taken after it was asked."""
        for call in calls:
            try:
                call.result = self._read(call)
            except sqlite3.Error as error:
                call.error = BackendError(explain(self._address.url, error))
                call.error.__cause__ = error
            except BaseException as error:
                call.error = error

    def _read(self, call: Call[Any]) -> Any:
        db = self._db
        patiently(lambda: db.execute("BEGIN"), self._address.url, self._patience)
        try:
            return call.work(Transaction(db, self._clock.now_us(), self._address.url))
        finally:
            if db.in_transaction:
                db.execute("ROLLBACK")

    def idle(self) -> None:
        """The reader hears nothing."""

    def after(self) -> None:
        """The reader leaves nothing behind."""
