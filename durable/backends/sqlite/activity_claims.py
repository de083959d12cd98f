"""Claims of activity tasks: ordinary attempts by queue and name, and those that have expired."""

from __future__ import annotations

import json
import sqlite3

from durable.backends.records import ActivityTask, Claimant
from durable.backends.sql.attempts import take_activity
from durable.backends.sql.handed import LastClaims
from durable.backends.sql.ledger import ActivityKey, Ledger
from durable.backends.sqlite.crews import Transaction
from durable.backends.sqlite.rows_io import load_activity, part, save
from durable.backends.sqlite.run_claims import UNREADABLE, park

_FOUND = "instance_id, run_id, number FROM activities"
CLAIMABLE = (
    f"SELECT claimable_at_us, {_FOUND} WHERE queue = ? AND name = ? AND claimable_at_us <= ? "
    "ORDER BY claimable_at_us, instance_id, run_id, number LIMIT ?"
)
EXPIRABLE = f"SELECT expirable_at_us, {_FOUND} WHERE expirable_at_us <= ? ORDER BY expirable_at_us LIMIT ?"
NEXT_CLAIMABLE = (
    "SELECT min(claimable_at_us) FROM activities WHERE queue = ? AND name = ? AND claimable_at_us IS NOT NULL"
)
NEXT_EXPIRABLE = "SELECT min(expirable_at_us) FROM activities WHERE expirable_at_us IS NOT NULL"
_SET_ASIDE = (
    "UPDATE activities SET claimable_at_us = NULL, expirable_at_us = NULL "
    "WHERE part = ? AND instance_id = ? AND run_id = ? AND number = ?"
)


class ActivityClaims:
    """Hands out attempts."""

    def __init__(self) -> None:
        self._last: LastClaims[ActivityKey] = LastClaims()

    def claim(self, tx: Transaction, claimant: Claimant, limit: int) -> tuple[list[ActivityTask], int | None]:
        """Up to ``limit`` attempts, and when the next one is ready."""
        _, before = self._last.again(claimant)
        items = [(key, task) for key in before if (task := _handed_again(tx, claimant, key))]
        if len(items) < limit:
            items += _hand_out(tx, claimant, _ready(tx, claimant, limit - len(items)))
        self._last.remember(claimant, 0, [key for key, _ in items])
        return [task for _, task in items], _next_wake(tx.db, claimant)


def _kinds(claimant: Claimant) -> list[tuple[str, str]]:
    return list(dict.fromkeys((queue, name) for queue in claimant.queues for name in claimant.activities))


def _ready(tx: Transaction, claimant: Claimant, limit: int) -> list[ActivityKey]:
    """Expired ones first: for them time has run out already."""
    found = dict.fromkeys(ActivityKey(*row[1:]) for row in tx.db.execute(EXPIRABLE, (tx.now_us, limit)))
    ready: list[tuple[int, str, str, int]] = []
    for kind in _kinds(claimant):
        ready += tx.db.execute(CLAIMABLE, (*kind, tx.now_us, limit)).fetchall()
    found |= dict.fromkeys(ActivityKey(*row[1:]) for row in sorted(ready))
    return list(found)[:limit]


def _hand_out(
    tx: Transaction, claimant: Claimant, keys: list[ActivityKey]
) -> list[tuple[ActivityKey, ActivityTask]]:
    ledger = Ledger(tx.now_us)
    items = []
    for key in keys:
        try:
            load_activity(tx.db, ledger, key)
            if (row := ledger.activities[key]) is not None:
                items.append((key, take_activity(tx.now_us, row, claimant)))
        except UNREADABLE as error:
            tx.db.execute(_SET_ASIDE, (part(key.instance_id), *key))
            text = json.dumps(str(error))
            park(tx, key.instance_id, ValueError(f"activity {key.number}: {text}"))
    save(tx.db, ledger)
    return items


def _handed_again(tx: Transaction, claimant: Claimant, key: ActivityKey) -> ActivityTask | None:
    ledger = Ledger(tx.now_us)
    load_activity(tx.db, ledger, key)
    row = ledger.activities[key]
    stands = row is not None and row.token == claimant.token and row.lease_until_us is not None
    return row.task(claimant.token, expired=bool(row.expired)) if row is not None and stands else None


def _next_wake(db: sqlite3.Connection, claimant: Claimant) -> int | None:
    found = [db.execute(NEXT_CLAIMABLE, kind).fetchone()[0] for kind in _kinds(claimant)]
    found.append(db.execute(NEXT_EXPIRABLE).fetchone()[0])
    return min((due for due in found if due is not None), default=None)
