"""Events to be published, in order per run: a run's events belong to one claim until all that it was handed are out."""

from __future__ import annotations

from durable.backends.records import Claimant, OutboxEvent
from durable.backends.sql.handed import LastClaims
from durable.backends.sql.rows import load_mapping
from durable.backends.sqlite.crews import Transaction

Position = tuple[int, str, str, int]
"""The primary key: part, instance id, run id, sequence."""

_EVENT = "part, instance_id, run_id, sequence, id, topic, payload, key, headers, lease_until_us"
_FREE = (
    f"SELECT {_EVENT} FROM outbox AS event "
    "WHERE lease_until_us <= ? AND NOT EXISTS ("
    "SELECT 1 FROM outbox AS held WHERE held.part = event.part AND held.instance_id = event.instance_id "
    "AND held.run_id = event.run_id AND held.lease_until_us > ?) "
    "ORDER BY created_at_us, run_id, sequence LIMIT ?"
)
_ONE = (
    f"SELECT {_EVENT} FROM outbox "
    "WHERE part = ? AND instance_id = ? AND run_id = ? AND sequence = ? AND lease_until_us = ?"
)
_HOLD = (
    "UPDATE outbox SET lease_until_us = ? WHERE part = ? AND instance_id = ? AND run_id = ? AND sequence = ?"
)
_NEXT_HELD = "SELECT min(lease_until_us) FROM outbox WHERE lease_until_us > ?"
_DONE = "DELETE FROM outbox WHERE id = ?"


class OutboxClaims:
    """Hands out events."""

    def __init__(self) -> None:
        self._last: LastClaims[Position] = LastClaims()

    def claim(self, tx: Transaction, claimant: Claimant, limit: int) -> tuple[list[OutboxEvent], int | None]:
        """Up to ``limit`` events, and when the next one is free."""
        until_us, before = self._last.again(claimant)
        again = (tx.db.execute(_ONE, (*position, until_us)).fetchone() for position in before)
        rows = [row for row in again if row is not None]
        until_us = until_us if rows else tx.now_us + claimant.lease_us
        if len(rows) < limit:
            new = tx.db.execute(_FREE, (tx.now_us, tx.now_us, limit - len(rows))).fetchall()
            tx.db.executemany(_HOLD, [(tx.now_us + claimant.lease_us, *row[:4]) for row in new])
            rows += new
        self._last.remember(claimant, until_us, [row[:4] for row in rows])
        return [_event(row) for row in rows], _next_wake(tx)


def _next_wake(tx: Transaction) -> int | None:
    free = tx.db.execute(_FREE, (tx.now_us, tx.now_us, 1)).fetchone()
    if free is not None:
        return int(free[-1])
    held: int | None = tx.db.execute(_NEXT_HELD, (tx.now_us,)).fetchone()[0]
    return held


def _event(row: tuple[int, str, str, int, str, str, str, str | None, str, int]) -> OutboxEvent:
    _, _, _, _, event_id, topic, payload, key, headers, _ = row
    return OutboxEvent(id=event_id, topic=topic, payload=payload, key=key, headers=load_mapping(headers))


def finish(tx: Transaction, ids: tuple[str, ...]) -> None:
    """Remove events that were published."""
    tx.db.executemany(_DONE, [(event_id,) for event_id in ids])
