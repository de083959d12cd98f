"""What every call of the store is made of: a piece of work on a lane, and the answer with the store's time."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from typing import TypeVar

from durable.backends.records import Answer, Refused
from durable.backends.sql.ledger import Ledger
from durable.backends.sql.needs import Needs
from durable.backends.sqlite.crews import Transaction
from durable.backends.sqlite.lane import Lane
from durable.backends.sqlite.rows_io import load, save

Q = TypeVar("Q")
A = TypeVar("A")
R = TypeVar("R")

CULPRITS = (
    sqlite3.IntegrityError,
    sqlite3.DataError,
    sqlite3.InterfaceError,
    sqlite3.ProgrammingError,
    OverflowError,
    ValueError,
)
"""What a single item can bring about by itself: a key that is there already, a number that SQLite cannot keep."""


class Calls:
    """The two lanes of a store."""

    def __init__(self, writer: Lane, reader: Lane) -> None:
        self._writer = writer
        self._reader = reader

    async def _write(self, work: Callable[[Transaction], R], *, durable: bool = True) -> R:
        """Do this in a transaction; returns when it is committed.

        ``durable=False``: leases, which are hints. They need not be on the disk, should the machine fail.
        """
        return await self._writer.call(work, durable=durable)

    async def _read(self, work: Callable[[Transaction], R]) -> R:
        """Do this with a snapshot of all that was committed so far."""
        return await self._reader.call(work)

    async def _judged(
        self,
        items: Sequence[Q],
        needs_of: Callable[[Sequence[Q]], Needs],
        judge: Callable[[Ledger, Q], A],
    ) -> Answer[A]:
        """Judge items one after the other, and write what was accepted."""
        asked = tuple(items)
        return await self._write(
            lambda tx: Answer(now_us=tx.now_us, items=judge_all(tx, asked, needs_of, judge))
        )


def judge_all(
    tx: Transaction,
    items: Sequence[Q],
    needs_of: Callable[[Sequence[Q]], Needs],
    judge: Callable[[Ledger, Q], A],
) -> list[A]:
    """Read, judge, write. When an item cannot be kept the batch is halved until it stands alone, and is refused."""
    tx.db.execute("SAVEPOINT items")
    try:
        ledger = load(tx.db, tx.now_us, needs_of(items))
        verdicts = [judge(ledger, item) for item in items]
        save(tx.db, ledger)
    except CULPRITS as error:
        tx.db.execute("ROLLBACK TO items")
        tx.db.execute("RELEASE items")
        if len(items) == 1:
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            return [Refused(reason=reason)]  # type: ignore[list-item]  # part of every verdict that can come here
        middle = len(items) // 2
        halves = (items[:middle], items[middle:])
        return [verdict for half in halves for verdict in judge_all(tx, half, needs_of, judge)]
    tx.db.execute("RELEASE items")
    tx.topics |= ledger.topics
    tx.ended |= ledger.ended
    return verdicts
