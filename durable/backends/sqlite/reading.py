"""Reads histories: the events of a run, out of rows that each hold what one checkpoint wrote."""

from __future__ import annotations

import json
import sqlite3

from durable.backends.sql.history import split_events
from durable.backends.sql.ledger import RunKey
from durable.backends.sqlite.rows_io import part

# A range of the primary key that begins with the row in which the first wanted event is, however long the history.
HISTORY = (
    "SELECT first_number, last_number, events, lengths FROM history "
    "WHERE part = ? AND instance_id = ? AND run_id = ? AND first_number >= coalesce(("
    "SELECT max(first_number) FROM history "
    "WHERE part = ? AND instance_id = ? AND run_id = ? AND first_number <= ?), 0) "
    "ORDER BY first_number"
)


def read_events(db: sqlite3.Connection, run: RunKey, after: int) -> tuple[bytes, ...]:
    """The events after this number, up to a row that is missing or broken: the head's number tells that some lack."""
    of_run = (part(run.instance_id), *run)
    events: list[bytes] = []
    expected = None
    for first, last, blob, lengths in db.execute(HISTORY, (*of_run, *of_run, after + 1)):
        some = _whole(blob, lengths, last - first + 1)
        if some is None or (expected is not None and first != expected):
            break
        expected = last + 1
        events += some[max(0, after + 1 - first) :]
    return tuple(events)


def _whole(blob: bytes, lengths: str | None, count: int) -> list[bytes] | None:
    try:
        events = split_events(blob, lengths)
    except (json.JSONDecodeError, TypeError):
        return None
    return events if len(events) == count else None
