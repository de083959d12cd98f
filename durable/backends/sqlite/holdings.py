"""What the file holds of unfinished runs beside their histories. Read in one snapshot, by keys."""

from __future__ import annotations

import sqlite3

from durable.backends.records import ANSWER_KINDS, Holdings, InstanceRef
from durable.backends.sqlite.client_calls import read_run
from durable.backends.sqlite.rows_io import CURRENT_RUN, part

_ACTIVITIES = (
    "SELECT number FROM activities WHERE part = ? AND instance_id = ? AND run_id = ? ORDER BY number"
)
_ANSWERS = (
    "SELECT key FROM inbox WHERE part = ? AND instance_id = ? "
    f"AND kind IN ({', '.join('?' * len(ANSWER_KINDS))}) ORDER BY number"
)


def holdings(db: sqlite3.Connection, ref: InstanceRef) -> Holdings | None:
    """Of an unfinished run; ``None`` if there is none, and for a row that cannot be read."""
    its_part = part(ref.instance_id)
    row = read_run(db, CURRENT_RUN, (its_part, ref.instance_id))
    if row is None or not row.open or ref.run_id not in (None, row.run_id):
        return None
    activities = db.execute(_ACTIVITIES, (its_part, row.instance_id, row.run_id))
    answers = db.execute(_ANSWERS, (its_part, row.instance_id, *ANSWER_KINDS))
    return Holdings(
        instance_id=row.instance_id,
        run_id=row.run_id,
        state=row.state,
        head=row.head,
        seen=row.seen,
        wake_at_us=row.wake_at_us,
        ready_at_us=row.ready_at_us,
        lease_until_us=row.lease_until_us if row.lease_owner is not None else None,
        activities=tuple(number for (number,) in activities),
        answers=tuple(key for (key,) in answers),
    )
