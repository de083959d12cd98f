"""Reads the rows of a batch into a `Ledger`, and writes its net changes: each row once, many rows a statement.

SQLite is in this process, so that a point look-up costs two microseconds: rows are read one by one, by their keys.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

from durable.backends.records import part_of
from durable.backends.sql import needs as needs_of
from durable.backends.sql.history import history_row
from durable.backends.sql.ledger import ActivityKey, Ledger, RunKey
from durable.backends.sql.needs import Needs
from durable.backends.sql.rows import (
    ACTIVITY_COLUMNS,
    INBOX_COLUMNS,
    RUN_COLUMNS,
    InboxRow,
    RunRow,
    dump_mapping,
    inbox_values,
    run_values,
)

_RUN = ", ".join(RUN_COLUMNS)
_ACTIVITY = ", ".join(ACTIVITY_COLUMNS)
_INBOX = ", ".join(INBOX_COLUMNS)

CURRENT_RUN = f"SELECT {_RUN} FROM instances WHERE part = ? AND instance_id = ?"
PAST_RUN = f"SELECT {_RUN} FROM past_runs WHERE part = ? AND instance_id = ? AND run_id = ?"
ACTIVITY = (
    f"SELECT {_ACTIVITY} FROM activities WHERE part = ? AND instance_id = ? AND run_id = ? AND number = ?"
)
UNREAD = (
    f"SELECT {_INBOX} FROM inbox WHERE part = ? AND instance_id = ? AND number > ? ORDER BY number LIMIT ?"
)
INBOX_HEAD = f"SELECT {_INBOX} FROM inbox WHERE part = ? AND instance_id = ? ORDER BY number LIMIT ?"
KEY = "SELECT 1 FROM message_keys WHERE part = ? AND instance_id = ? AND key = ?"
ENDED_BY = "SELECT 1 FROM past_runs WHERE part = ? AND instance_id = ? AND head_token = ?"

part = lru_cache(maxsize=65_536)(part_of)
"""The part of an instance, remembered."""


def insert(table: str, columns: Sequence[str], *, or_: str = "ABORT") -> str:
    """An ``INSERT`` of one row; a key that is there already is an error (``or_``: or else)."""
    marks = ", ".join("?" * len(columns))
    return f"INSERT OR {or_} INTO {table} ({', '.join(columns)}) VALUES ({marks})"


# --- reading


def load(db: sqlite3.Connection, now_us: int, needs: Needs) -> Ledger:
    """The rows that a batch needs."""
    ledger = Ledger(now_us)
    load_runs(db, ledger, needs.instances)
    for instance_id, key in needs.keys:
        if db.execute(KEY, (part(instance_id), instance_id, key)).fetchone():
            ledger.known_keys.add((instance_id, key))
    for activity in needs.activities:
        load_activity(db, ledger, activity)
    for instance_id, token in needs.end_tokens:
        if db.execute(ENDED_BY, (part(instance_id), instance_id, token)).fetchone():
            ledger.ended_by.add((instance_id, token))
    _load_further(db, ledger, needs)
    return ledger


def _load_further(db: sqlite3.Connection, ledger: Ledger, needs: Needs) -> None:
    further = needs_of.further(ledger, needs)
    load_runs(db, ledger, further.instances)
    for key in further.runs:
        load_past_run(db, ledger, key)
    for instance_id, wanted in further.unread.items():
        rows = db.execute(UNREAD, (part(instance_id), instance_id, *wanted))
        ledger.unread[instance_id] = [InboxRow(*row) for row in rows]


def load_runs(db: sqlite3.Connection, ledger: Ledger, instance_ids: Iterable[str]) -> None:
    """The current runs of instances."""
    for instance_id in instance_ids:
        found = db.execute(CURRENT_RUN, (part(instance_id), instance_id)).fetchone()
        ledger.add_run(instance_id, found)
        if found is not None and (followed := ledger.runs[instance_id]) is not None:
            _check(followed)


def load_past_run(db: sqlite3.Connection, ledger: Ledger, key: RunKey) -> None:
    """An earlier run."""
    found = db.execute(PAST_RUN, (part(key.instance_id), *key)).fetchone()
    ledger.past[key] = None if found is None else RunRow(*found)


def load_activity(db: sqlite3.Connection, ledger: Ledger, key: ActivityKey) -> None:
    """An activity task."""
    ledger.add_activity(key, db.execute(ACTIVITY, (part(key.instance_id), *key)).fetchone())


def _check(row: RunRow) -> None:
    # What a column's type cannot say; a row that fails here is parked by claims, and refused elsewhere.
    if row.head_number < 0 or row.sent < row.seen:
        raise ValueError(
            f"the row of {row.instance_id!r} contradicts itself (head {row.head_number}, seen {row.seen})"
        )


# --- writing

_INSERT_RUN = insert("instances", RUN_COLUMNS)
_INSERT_PAST_RUN = insert("past_runs", RUN_COLUMNS)
_INSERT_ACTIVITY = insert("activities", ACTIVITY_COLUMNS)
_INSERT_INBOX = insert("inbox", INBOX_COLUMNS)
_INSERT_KEY = insert("message_keys", ("part", "instance_id", "key"), or_="IGNORE")
_INSERT_HISTORY = insert(
    "history", ("part", "instance_id", "run_id", "first_number", "last_number", "events", "lengths")
)
# Numbered behind what is still to be published of the run (or of a forgotten one of the same id).
_INSERT_OUTBOX = (
    "INSERT INTO outbox (part, instance_id, run_id, sequence, workflow, id, topic, payload, key, headers, "
    "created_at_us, lease_until_us) SELECT ?, ?, ?, coalesce(max(sequence), 0) + 1, ?, ?, ?, ?, ?, ?, "
    "?, ? FROM outbox WHERE part = ? AND instance_id = ? AND run_id = ?"
)
_INSERT_REPLY = insert("update_replies", ("part", "instance_id", "id", "body"), or_="IGNORE")
_INSERT_CLOSING = insert("closings", ("part", "instance_id", "run_id", "claimable_at_us"), or_="IGNORE")
_CONSUME = "DELETE FROM inbox WHERE part = ? AND instance_id = ? AND number = ?"
_CLEAR_INBOX = "DELETE FROM inbox WHERE part = ? AND instance_id = ?"
_CLEAR_INBOX_OF_RUN = "DELETE FROM inbox WHERE part = ? AND instance_id = ? AND run_id IS NOT NULL"
_FORGET_KEYS = "DELETE FROM message_keys WHERE part = ? AND instance_id = ?"
_FORGET_REPLIES = "DELETE FROM update_replies WHERE part = ? AND instance_id = ?"
_DROP_ACTIVITY = "DELETE FROM activities WHERE part = ? AND instance_id = ? AND run_id = ? AND number = ?"
_DROP_ACTIVITIES = "DELETE FROM activities WHERE part = ? AND instance_id = ? AND run_id = ?"
_HELD = f"SELECT {_ACTIVITY} FROM activities WHERE part = ? AND instance_id = ? AND run_id = ?"


def save(db: sqlite3.Connection, ledger: Ledger) -> None:
    """Write what the judging of a batch has changed."""
    _take_away(db, ledger)
    if ledger.archived:
        db.executemany(_INSERT_PAST_RUN, [run_values(row) for row in ledger.archived.values()])
    _save_runs(db, ledger)
    if ledger.history:
        db.executemany(_INSERT_HISTORY, map(history_row, ledger.history))
    if ledger.inbox:
        messages = (message for inbox in ledger.inbox.values() for message in inbox.values())
        db.executemany(_INSERT_INBOX, map(inbox_values, messages))
    if ledger.new_keys:
        db.executemany(_INSERT_KEY, [(part(name), name, key) for name, key in ledger.new_keys])
    _save_activities(db, ledger)
    _save_the_rest(db, ledger)


def _take_away(db: sqlite3.Connection, ledger: Ledger) -> None:
    for cleared in ledger.cleared:
        sql = _CLEAR_INBOX if cleared.run_id is None else _CLEAR_INBOX_OF_RUN
        db.execute(sql, (cleared.part, cleared.instance_id))
    if ledger.consumed:
        db.executemany(
            _CONSUME,
            [(part(name), name, number) for name, gone in ledger.consumed.items() for number in gone],
        )
    if ledger.forgotten:
        names = [(part(name), name) for name in ledger.forgotten]
        db.executemany(_FORGET_KEYS, names)
        db.executemany(_FORGET_REPLIES, names)
    if ledger.dropped_runs:
        db.executemany(_DROP_ACTIVITIES, [(part(key.instance_id), *key) for key in ledger.dropped_runs])
    if ledger.dropped_activities:
        db.executemany(_DROP_ACTIVITY, [(part(key.instance_id), *key) for key in ledger.dropped_activities])


def _save_runs(db: sqlite3.Connection, ledger: Ledger) -> None:
    new: list[tuple[Any, ...]] = []
    changes: dict[tuple[int, ...], list[list[Any]]] = {}
    for row, read, now in ledger.changed_runs():
        if read is None:
            new.append(now)
            continue
        changed = tuple([n for n, value in enumerate(now) if value != read[n]])
        changes.setdefault(changed, []).append([*(now[n] for n in changed), row.part, row.instance_id])
    if new:
        db.executemany(_INSERT_RUN, new)
    for columns, values in changes.items():
        db.executemany(_update_run(columns), values)


@lru_cache(maxsize=512)
def _update_run(columns: tuple[int, ...]) -> str:
    # Only what has changed is named: an index on a column that is not named is not touched.
    fields = ", ".join(f"{RUN_COLUMNS[n]} = ?" for n in columns)
    return f"UPDATE instances SET {fields} WHERE part = ? AND instance_id = ?"


def _save_activities(db: sqlite3.Connection, ledger: Ledger) -> None:
    new: list[tuple[Any, ...]] = []
    changes: dict[tuple[int, ...], list[list[Any]]] = {}
    for row, read, now in ledger.changed_activities():
        key = ActivityKey(row.instance_id, row.run_id, row.number)
        if read is None or key in ledger.dropped_activities:
            new.append(now)
            continue
        changed = tuple([n for n, value in enumerate(now) if value != read[n]])
        changes.setdefault(changed, []).append([*(now[n] for n in changed), row.part, *key])
    if new:
        db.executemany(_INSERT_ACTIVITY, new)
    for columns, values in changes.items():
        db.executemany(_update_activity(columns), values)
    for run in ledger.held:
        _hold(db, ledger, run)


@lru_cache(maxsize=512)
def _update_activity(columns: tuple[int, ...]) -> str:
    fields = ", ".join(f"{ACTIVITY_COLUMNS[n]} = ?" for n in columns)
    return f"UPDATE activities SET {fields} WHERE part = ? AND instance_id = ? AND run_id = ? AND number = ?"


def _hold(db: sqlite3.Connection, ledger: Ledger, run: RunKey) -> None:
    held = Ledger(ledger.now_us)
    for values in db.execute(_HELD, (part(run.instance_id), *run)).fetchall():
        row_key = ActivityKey(*run, values[ACTIVITY_COLUMNS.index("number")])
        held.add_activity(row_key, values)
        row = held.activities[row_key]
        if row is not None:
            row.held = int(ledger.held[run])
            row.settle()
    _save_activities(db, held)


def _save_the_rest(db: sqlite3.Connection, ledger: Ledger) -> None:
    for row, event in ledger.outbox:
        of_run = (row.part, row.instance_id, row.run_id)
        content = (
            row.workflow,
            event.id,
            event.topic,
            event.payload,
            event.key,
            dump_mapping(event.headers),
            ledger.now_us,
            ledger.now_us,
        )
        db.execute(_INSERT_OUTBOX, of_run + content + of_run)
    if ledger.replies:
        replies = [(part(name), name, key, body) for (name, key), body in ledger.replies.items()]
        db.executemany(_INSERT_REPLY, replies)
    if ledger.closings:
        closings = [(part(key.instance_id), *key, ledger.now_us) for key in ledger.closings]
        db.executemany(_INSERT_CLOSING, closings)
