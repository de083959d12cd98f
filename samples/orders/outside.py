"""The world outside: a payment provider and a warehouse, simulated in a SQLite file of their own.

This is not the engine's file. What happened here has happened, whatever becomes of the worker that asked for it, as
with a real provider. And like a real provider it takes an *idempotency key*: a charge that is repeated, because the
worker was killed before it could write down the answer, gives the first receipt again instead of a second charge.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from samples.orders.model import CardDeclined, OutOfStock, PaymentUnavailable

FLAKY_FAILURES = 2


class Outside:
    """``charge``, ``refund`` and ``ship``: plain blocking calls, each taking ``pace_seconds``.

    Cards: ``"good"``; ``"flaky"``: the provider does not answer the first two times; ``"empty"``: declined.
    Of the item ``"unicorn"`` there is none.
    """

    def __init__(self, path: Path, pace_seconds: float) -> None:
        self.path = path
        self.pace_seconds = pace_seconds
        with self._ledger() as ledger:
            ledger.execute("CREATE TABLE IF NOT EXISTS done (key TEXT PRIMARY KEY, what TEXT, asked INTEGER)")
            ledger.execute("CREATE TABLE IF NOT EXISTS calls (key TEXT PRIMARY KEY, times INTEGER)")

    def charge(self, key: str, card: str, cents: int) -> str:
        """Take the money; gives a receipt. Raises `CardDeclined` and `PaymentUnavailable`."""
        time.sleep(self.pace_seconds)
        if card == "empty":
            raise CardDeclined("the bank refused the card")
        if card == "flaky" and self._call_number(key) <= FLAKY_FAILURES:
            raise PaymentUnavailable("the payment provider did not answer")
        return self._once(f"charge {key}", f"receipt-{_short(key)}-{cents}")

    def refund(self, key: str, receipt: str) -> None:
        """Give the money of a receipt back."""
        time.sleep(self.pace_seconds)
        self._once(f"refund {key}", f"refund of {receipt}")

    def ship(self, key: str, item: str) -> str:
        """Send a parcel; gives its number. Raises `OutOfStock`."""
        time.sleep(self.pace_seconds)
        if item == "unicorn":
            raise OutOfStock(f"there is no {item} left")
        return self._once(f"ship {key}", f"parcel-{_short(key)}")

    def ledger(self) -> list[tuple[str, int]]:
        """What has been done, in order, and how often it was asked for: twice only around a crash."""
        with self._ledger() as ledger:
            return list(ledger.execute("SELECT what, asked FROM done ORDER BY rowid"))

    def _once(self, key: str, what: str) -> str:
        with self._ledger() as ledger:
            ledger.execute(
                "INSERT INTO done VALUES (?, ?, 1) ON CONFLICT (key) DO UPDATE SET asked = asked + 1",
                (key, what),
            )
            first: tuple[str] = ledger.execute("SELECT what FROM done WHERE key = ?", (key,)).fetchone()
        return first[0]

    def _call_number(self, key: str) -> int:
        with self._ledger() as ledger:
            ledger.execute(
                "INSERT INTO calls VALUES (?, 1) ON CONFLICT (key) DO UPDATE SET times = times + 1", (key,)
            )
            found: tuple[int] = ledger.execute("SELECT times FROM calls WHERE key = ?", (key,)).fetchone()
        return found[0]

    @contextmanager
    def _ledger(self) -> Iterator[sqlite3.Connection]:
        # A connection for each call: activities run in threads, and a connection belongs to one thread.
        with closing(sqlite3.connect(self.path, timeout=10)) as connection, connection:
            yield connection


def _short(key: str) -> str:
    """Something to print: the order, without the rest of the key."""
    return key.partition("/")[0]
