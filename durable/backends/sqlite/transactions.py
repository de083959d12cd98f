"""Transactions that are not the writer's: of callers (``connection=``), and of activities (``durable.transaction()``).

Both judge and write with the code of the ordinary calls (`judge_all`), on another connection. SQLite has one write
lock, so while such a transaction is open the writer waits, on its own thread. Its calls (leases among them) are late
by that, and not lost: a transaction of an activity is over within `LIMIT_SECONDS`, and of this process's only one is
open at a time, with a batch of the writer between any two. Callers are asked to be as quick; nobody can make them.

Others hear of a commit as of another process's, by ``data_version``; of our own the bell is rung at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import time
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, TypeVar

import aiosqlite

from durable.backends.contract import ActivityTransaction
from durable.backends.records import (
    Accepted,
    ActivityFinished,
    ActivityRef,
    Answer,
    Created,
    Existing,
    Lost,
    NewInstance,
    NewMessage,
    Refused,
    Taken,
    Verdict,
)
from durable.backends.sql import needs
from durable.backends.sql.attempts import judge_outcome
from durable.backends.sql.creating import judge_create
from durable.backends.sql.inbox import judge_send
from durable.backends.sql.ledger import ActivityKey, Ledger
from durable.backends.sqlite.borrowed import as_ours, in_transaction_of, patiently
from durable.backends.sqlite.calls import Calls, judge_all
from durable.backends.sqlite.crews import Clock, Ring, Transaction
from durable.backends.sqlite.lane import Lane
from durable.backends.sqlite.opening import Address, connect, explain
from durable.backends.sqlite.rows_io import load_activity
from durable.errors import BackendError

Q = TypeVar("Q")
A = TypeVar("A")
R = TypeVar("R")

LIMIT_SECONDS = 5.0
"""How long a lock is waited for, and how long the transaction of an activity may take."""


class TransactionCalls(Calls):
    """See `durable.backends.contract.TransactionStore`."""

    _address: Address
    _clock: Clock
    _ring: Ring

    def __init__(self, writer: Lane, reader: Lane) -> None:
        super().__init__(writer, reader)
        self._turn = asyncio.Lock()
        self._held: set[HeldTransaction] = set()

    async def create_in(
        self, connection: Any, instance: NewInstance
    ) -> Answer[Created | Existing | Taken | Refused]:
        """See the contract. ``connection``: see `durable.backends.sqlite.borrowed`."""
        return await self._judged_in(connection, instance, needs.of_instances, judge_create)

    async def send_in(self, connection: Any, message: NewMessage) -> Answer[Verdict]:
        """See the contract. ``connection``: see `durable.backends.sqlite.borrowed`."""

        def judge(ledger: Ledger, item: NewMessage) -> Verdict:
            return judge_send(ledger, item)

        return await self._judged_in(connection, message, needs.of_messages, judge)

    async def _judged_in(
        self,
        connection: Any,
        item: Q,
        needs_of: Callable[[Sequence[Q]], needs.Needs],
        judge: Callable[[Ledger, Q], A],
    ) -> Answer[A]:
        def work(db: sqlite3.Connection) -> Answer[A]:
            tx = Transaction(db, self._clock.now_us(), self._address.url)
            return Answer(now_us=tx.now_us, items=judge_all(tx, (item,), needs_of, judge))

        return await in_transaction_of(connection, self._address, LIMIT_SECONDS, work)

    async def begin(self, ref: ActivityRef, token: str) -> ActivityTransaction:
        """See the contract. Waits for its turn among the transactions of this process, however many there are."""
        await self._turn.acquire()
        held = HeldTransaction(self._address, self._clock, self._ring, ref, token, self._over)
        self._held.add(held)
        try:
            await self._write(lambda _: None)  # those who wait for the writer come first
            await held.open()
        except BaseException:
            await held.rollback()
            raise
        return held

    def _over(self, held: HeldTransaction) -> None:
        if held in self._held:
            self._held.remove(held)
            self._turn.release()

    async def _roll_back_what_is_open(self) -> None:
        for held in list(self._held):
            await held.rollback()


class HeldConnection(aiosqlite.Connection):
    """What an activity writes through. The transaction is the engine's to end; outside of it nothing is executed.

    Without that last rule, what follows a rollback that SQLite made by itself would be committed alone, at once.
    """

    gone: str | None = None
    guarded = False

    def commit(self) -> NoReturn:
        """Raises ``RuntimeError``: the engine commits."""
        raise RuntimeError("durable.transaction() is committed by the engine, when the activity returns")

    def rollback(self) -> NoReturn:
        """Raises ``RuntimeError``: the engine rolls back."""
        raise RuntimeError("durable.transaction() is rolled back by the engine, when the activity raises")

    def executescript(self, sql_script: str) -> NoReturn:
        """Raises ``RuntimeError``: it would commit."""
        raise RuntimeError("inside durable.transaction(): executescript() would commit; use execute()")

    async def _execute(self, fn: Callable[..., R], *args: Any, **kwargs: Any) -> R:
        return await self.run(lambda: self._checked(fn, args, kwargs))

    async def run(self, work: Callable[[], R]) -> R:
        """For the engine: do this on the connection's thread."""
        result: R = await super()._execute(work)  # type: ignore[no-untyped-call]
        return result

    def _checked(self, fn: Callable[..., R], args: tuple[Any, ...], kwargs: dict[str, Any]) -> R:
        if self.gone is not None:
            raise BackendError(self.gone)
        if self.guarded and not self._conn.in_transaction:
            raise BackendError(
                "SQLite has rolled durable.transaction() back after an error; let the activity fail"
            )
        return fn(*args, **kwargs)


class HeldTransaction:
    """See `durable.backends.contract.ActivityTransaction`. On a connection that is opened and closed with it."""

    def __init__(
        self,
        address: Address,
        clock: Clock,
        ring: Ring,
        ref: ActivityRef,
        token: str,
        over: Callable[[HeldTransaction], None],
    ) -> None:
        self.connection = HeldConnection(self._connect, iter_chunk_size=64)
        self._address = address
        self._clock = clock
        self._ring = ring
        self._ref = ref
        self._token = token
        self._over = over
        self._label = f"activity {ref.number} of instance {ref.instance_id!r}"
        self._too_late = (
            f"{self._label}: durable.transaction() was open for more than {LIMIT_SECONDS:g} s and was rolled back, "
            "since all others wait meanwhile; do the slow part before it"
        )
        self._db: sqlite3.Connection
        self._connecting: asyncio.Future[Any] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._expiring: asyncio.Future[None] | None = None
        self._ending: asyncio.Future[None] | None = None
        self._deadline = 0.0

    async def open(self) -> None:
        """Begin. Raises `BackendError` for a lock that is not to be had, and for a token that does not stand."""
        self._connecting = asyncio.ensure_future(self._connected())
        await asyncio.shield(self._connecting)
        await patiently(
            lambda: self.connection.run(lambda: self._db.execute("BEGIN IMMEDIATE")),
            self._address.url,
            LIMIT_SECONDS,
        )
        self._timer = asyncio.get_running_loop().call_later(LIMIT_SECONDS, self._expire)
        await self.connection.run(self._begun)

    async def finish(self, outcome: ActivityFinished) -> Verdict:
        """See the contract. `BackendError` if it took too long, or the outcome cannot be kept."""
        try:
            return await self.connection.run(lambda: self._finish(outcome))
        except ValueError as error:
            raise BackendError(
                f"{self._label}: the connection of durable.transaction() was closed"
            ) from error
        finally:
            await self.rollback()

    async def rollback(self) -> None:
        """See the contract."""
        if self._ending is None:
            self._ending = asyncio.ensure_future(self._end())
        await asyncio.shield(self._ending)

    async def _connected(self) -> None:
        await self.connection

    async def _end(self) -> None:
        try:
            if self._timer is not None:
                self._timer.cancel()
            if self._connecting is not None:
                with contextlib.suppress(Exception):
                    await self._connecting
            self.connection.gone, self.connection.guarded = None, False  # or it would refuse to close
            with contextlib.suppress(ValueError, sqlite3.Error):
                await self.connection.close()  # what was not committed goes
        finally:
            self._over(self)

    def _expire(self) -> None:
        self.connection.gone = self._too_late
        self._expiring = asyncio.ensure_future(self._expired())

    async def _expired(self) -> None:
        with contextlib.suppress(ValueError, sqlite3.Error):
            await self.connection.run(self._undo)
        self._over(self)

    # --- on the connection's thread

    def _connect(self) -> sqlite3.Connection:
        self._db = connect(self._address, LIMIT_SECONDS)
        return self._db

    def _begun(self) -> None:
        ledger = Ledger(self._clock.now_us())
        key = ActivityKey(self._ref.instance_id, self._ref.run_id, self._ref.number)
        load_activity(self._db, ledger, key)
        row = ledger.activities[key]
        if row is None or row.token != self._token:
            raise BackendError(f"{self._label} is not this worker's any more; nothing was written")
        self._deadline = time.monotonic() + LIMIT_SECONDS
        self._db.set_progress_handler(self._is_late, 10_000)  # ends a statement that takes too long
        self._db.set_authorizer(_may)
        self.connection.guarded = True

    def _is_late(self) -> bool:
        return time.monotonic() > self._deadline

    def _undo(self) -> None:
        self._db.set_progress_handler(None, 0)
        self._db.set_authorizer(None)
        if self._db.in_transaction:
            self._db.execute("ROLLBACK")

    def _finish(self, outcome: ActivityFinished) -> Verdict:
        if self.connection.gone is not None or self._is_late():
            raise BackendError(self._too_late)
        if not self._db.in_transaction:
            raise BackendError(f"{self._label}: SQLite has rolled durable.transaction() back after an error")
        self._db.set_progress_handler(None, 0)
        self._db.set_authorizer(None)
        try:
            with as_ours(self._db):
                return self._write(outcome)
        except sqlite3.Error as error:
            raise BackendError(explain(self._address.url, error)) from error

    def _write(self, outcome: ActivityFinished) -> Verdict:
        tx = Transaction(self._db, self._clock.now_us(), self._address.url)
        verdict: Accepted | Lost | Refused = judge_all(tx, (outcome,), needs.of_outcomes, judge_outcome)[0]
        match verdict:
            case Accepted():
                self._db.execute("COMMIT")
                self._ring(tx.topics, tx.ended)
            case Refused(reason=reason):
                raise BackendError(f"{self._label}: its result cannot be kept: {reason}")
            case Lost():
                self._db.execute("ROLLBACK")
        return verdict


def _may(action: int, *_: str | None) -> int:
    """Whatever a statement is called, it does not end the transaction. (Savepoints are free.)"""
    return sqlite3.SQLITE_DENY if action == sqlite3.SQLITE_TRANSACTION else sqlite3.SQLITE_OK
