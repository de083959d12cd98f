"""Forgetting finished runs, and all that belongs to them.

What they owe to others stays until it is done: events that are not published, children that are not closed.
"""

from __future__ import annotations

import sqlite3

from durable.backends.records import Accepted, InstanceRef, NotFound, Purge, Unfinished, Verdict
from durable.backends.sql.ledger import Ledger, RunKey
from durable.backends.sql.rows import RUN_COLUMNS, RunRow, run_values
from durable.backends.sqlite.crews import Transaction
from durable.backends.sqlite.rows_io import PAST_RUN, insert, load_past_run, load_runs, part

_PAST_RUN_IDS = (
    "SELECT run_id FROM past_runs WHERE part = ? AND instance_id = ? ORDER BY closed_at_us, created_at_us"
)
_OF_INSTANCE = tuple(
    f"DELETE FROM {table} WHERE part = ? AND instance_id = ?"
    for table in ("instances", "inbox", "message_keys", "update_replies", "questions")
)
_OF_RUN = tuple(
    f"DELETE FROM {table} WHERE part = ? AND instance_id = ? AND run_id = ?"
    for table in ("past_runs", "history", "activities")
)
_REPLACE_CURRENT = insert("instances", RUN_COLUMNS, or_="REPLACE")
_OLD = (
    "SELECT closed_at_us, run_id, instance_id FROM {table} "
    "WHERE closed_at_us < ? AND state IN ({states}) ORDER BY closed_at_us, run_id LIMIT ?"
)


def delete(tx: Transaction, ref: InstanceRef) -> Verdict:
    """Forget a finished run; without a run id the whole instance, if its current run has finished."""
    ledger = Ledger(tx.now_us)
    load_runs(tx.db, ledger, [ref.instance_id])
    row = ledger.runs[ref.instance_id]
    if row is not None and ref.run_id is not None and row.run_id != ref.run_id:
        load_past_run(tx.db, ledger, RunKey(ref.instance_id, ref.run_id))
        row = ledger.run(ref.instance_id, ref.run_id)
    if row is None:
        return NotFound()
    if row.open:
        return Unfinished(state=row.state)
    run_ids = [row.run_id] if ref.run_id is not None else [*_past(tx.db, ref.instance_id), row.run_id]
    for run_id in run_ids:
        forget(tx.db, RunKey(ref.instance_id, run_id))
    return Accepted()


def purge(tx: Transaction, wanted: Purge) -> list[InstanceRef]:
    """Forget the oldest finished runs."""
    found: list[tuple[int, str, str]] = []
    marks = ", ".join("?" * len(wanted.states))
    for table in ("instances", "past_runs"):
        sql = _OLD.format(table=table, states=marks)
        values = (wanted.closed_before_us, *wanted.states, wanted.limit)
        found += tx.db.execute(sql, values).fetchall()
    refs = []
    for _, run_id, instance_id in sorted(found)[: wanted.limit]:
        forget(tx.db, RunKey(instance_id, run_id))
        refs.append(InstanceRef(instance_id=instance_id, run_id=run_id))
    return refs


def forget(db: sqlite3.Connection, key: RunKey) -> None:
    """Remove a finished run; with the last one, all that is known of its instance."""
    its_part = part(key.instance_id)
    for sql in _OF_RUN:
        db.execute(sql, (its_part, *key))
    current = db.execute(
        "SELECT run_id, sent, seen FROM instances WHERE part = ? AND instance_id = ?",
        (its_part, key.instance_id),
    ).fetchone()
    if current is None or current[0] != key.run_id:
        return
    earlier = _past(db, key.instance_id)
    if earlier:
        _make_current(db, RunKey(key.instance_id, earlier[-1]), current[1], current[2])
        return
    for sql in _OF_INSTANCE:
        db.execute(sql, (its_part, key.instance_id))


def _past(db: sqlite3.Connection, instance_id: str) -> list[str]:
    return [run_id for (run_id,) in db.execute(_PAST_RUN_IDS, (part(instance_id), instance_id))]


def _make_current(db: sqlite3.Connection, key: RunKey, sent: int, seen: int) -> None:
    """The run before becomes the current one again; the messages of the instance keep their count."""
    values = (part(key.instance_id), *key)
    row = RunRow(*db.execute(PAST_RUN, values).fetchone())
    row.sent, row.seen = sent, seen
    db.execute(_REPLACE_CURRENT, run_values(row))
    db.execute("DELETE FROM past_runs WHERE part = ? AND instance_id = ? AND run_id = ?", values)
