"""Claims in one statement after the look: rows are had, judged, leased and handed out by it; a second reads inboxes.

The general claim begins a transaction, locks rows, reads inboxes and first events, writes and commits. Here the rows
are had with the same precautions as in `one_statement`; the first event of a run is there for as long as the run is;
and of an inbox that is read behind the lease, what came after the lease is left for the next claim. What is not as the
look has found it is passed over, and found by the next look. Runs that were claimed too often are for the general claim
to park.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from durable.backends.records import (
    MAX_CLAIMS,
    MAX_MESSAGES_PER_TASK,
    Claimant,
    Head,
    Message,
    Parent,
    ParentClose,
    WorkflowTask,
)
from durable.backends.sql.ledger import RunKey
from durable.backends.sql.server.loading import RUN_KEY, columns, part
from durable.backends.sql.server.reading import read_inboxes, whole
from durable.backends.sql.server.session import Row, Session, Wanted
from durable.backends.sql.server.tables import Kind

# In the order in which `_task` takes them, all as they were before.
_COLUMNS = (
    *("instance_id", "run_id", "workflow", "version", "queue", "head_number", "head_token", "history_bytes"),
    *("sent", "parent_id", "parent_run_id", "parent_number", "parent_close", "wake_at_us", "deadline_us"),
    "first_run_id",
)
PLACED: dict[str, Kind] = {**RUN_KEY, "place": "int"}
_SENT = 2 + _COLUMNS.index("sent")
_SAME_RUN = " AND ".join(f"{{0}}.{name} = w.{name}" for name in RUN_KEY)
_HELD = "coalesce(i.lease_owner = w.owner AND i.lease_until_us > w.now_us, false)"
# A worker that is handed what it holds, because there is news, is alive: that claim is not counted.
# They are had by their place: in whatever order a plan gives them, the limit leaves out none that waits longer.
# Times are compared in a way that no index knows, or on a small table the plan is to read all that is claimable.
# The commit need not wait for the disk: it leases, and no more. (A setting that is local ends with the statement.)
LEASE_PLAIN = (
    "WITH lazy AS MATERIALIZED (SELECT set_config('synchronous_commit', 'off', true) AS word), "
    "w AS MATERIALIZED (SELECT wanted.*, @now AS now_us, CAST(? AS text) AS owner FROM lazy CROSS JOIN @wanted "
    "WHERE lazy.word = 'off'), "
    f"had AS MATERIALIZED (SELECT i.part, w.place, w.now_us, w.owner, {_HELD} AS held, i.claims, "
    f"{columns(_COLUMNS, 'i')} FROM w JOIN @instances AS i ON {_SAME_RUN.format('i')} WHERE i.state = 'running' "
    f"AND (i.claims < {MAX_CLAIMS} OR {_HELD}) AND (coalesce(i.claimable_at_us, w.now_us + 1) <= w.now_us "
    "OR (i.lease_owner = w.owner AND coalesce(i.ready_at_us, w.now_us + 1) <= w.now_us)) "
    "ORDER BY w.place LIMIT ? FOR UPDATE OF i SKIP LOCKED), "
    "leased AS (UPDATE @instances AS t SET claims = t.claims + CASE WHEN w.held THEN 0 ELSE 1 END, "
    "lease_owner = w.owner, claim_token = ?, lease_until_us = w.now_us + ?, claimable_at_us = w.now_us + ?, "
    "ready_at_us = CASE WHEN t.wake_at_us > w.now_us THEN t.wake_at_us END "
    "FROM had AS w WHERE t.part = w.part AND t.instance_id = w.instance_id) "
    "SELECT w.now_us, w.claims + CASE WHEN w.held THEN 0 ELSE 1 END AS claims, "
    f"{columns(_COLUMNS, 'w')}, h.events, h.lengths FROM had AS w LEFT JOIN @history AS h "
    f"ON {_SAME_RUN.format('h')} AND h.first_number = 1 AND w.head_number = 1 ORDER BY w.place"
)


async def lease_plain(
    session: Session, claimant: Claimant, limit: int, keys: Sequence[RunKey]
) -> tuple[int, list[WorkflowTask]]:
    """The store's time (0 if none was had), and up to ``limit`` of these, leased; first those that come first."""
    lease_us = claimant.lease_us
    values = (claimant.worker_id, limit, claimant.token, lease_us, lease_us)
    wanted = Wanted(PLACED, [(part(key.instance_id), *key, place) for place, key in enumerate(keys)])
    rows = await session.fetch_wanted(LEASE_PLAIN, wanted, *values)
    inboxes = await read_inboxes(session, [row[2] for row in rows if row[_SENT]])
    return (rows[0][0] if rows else 0), [_task(row, inboxes.get(row[2], ())) for row in rows]


def _task(row: Row, inbox: Sequence[Message]) -> WorkflowTask:
    """What `durable.backends.sql.changes.workflow_task` would make of it."""
    _, claims, instance_id, run_id, workflow, version, queue, number, token, history_bytes, sent, *more = row
    parent_id, parent_run_id, parent_number, parent_close, wake_at_us, deadline_us, first_run_id, *first = (
        more
    )
    events = whole(first[0], first[1], 1) if first[0] is not None else None
    messages = [one for one in inbox if one.number <= sent]
    if more_messages := len(messages) > MAX_MESSAGES_PER_TASK:
        del messages[MAX_MESSAGES_PER_TASK:]
    parent = None
    if parent_id is not None and parent_run_id is not None:
        parent = Parent(
            instance_id=parent_id,
            run_id=parent_run_id,
            number=parent_number or 0,
            close=cast(ParentClose, parent_close or "terminate"),
        )
    return WorkflowTask(
        instance_id=instance_id,
        run_id=run_id,
        workflow=workflow,
        version=version,
        queue=queue,
        state="running",
        head=Head(number=number, token=token),
        history_bytes=history_bytes,
        messages=tuple(messages),
        seen=messages[-1].number if more_messages else sent,
        claims=claims,
        parent=parent,
        wake_at_us=wake_at_us,
        deadline_us=deadline_us,
        first_run_id=first_run_id,
        events=None if events is None else tuple(events),
    )
