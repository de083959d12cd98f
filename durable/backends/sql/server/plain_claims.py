"""Claims of runs that were never sent anything, in one statement after the look: new ones and those that a timer wakes.

The general claim begins a transaction, locks rows, reads inboxes and first events, writes and commits. A run without
messages needs no inbox, and its first event is there for as long as it is. So the rows are had, leased and handed out
by one statement, with the same precautions as in `one_statement`. What is not plain any more is passed over, and found
by the next look.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from durable.backends.records import MAX_CLAIMS, Claimant, Head, Parent, ParentClose, WorkflowTask
from durable.backends.sql.ledger import RunKey
from durable.backends.sql.server.loading import RUN_KEY, columns, part
from durable.backends.sql.server.reading import whole
from durable.backends.sql.server.session import Row, Session, Wanted

# In the order in which `_task` takes them, all as they were before.
_COLUMNS = (
    *("instance_id", "run_id", "workflow", "version", "queue", "head_number", "head_token", "history_bytes"),
    *("parent_id", "parent_run_id", "parent_number", "parent_close", "wake_at_us", "deadline_us"),
    *("first_run_id", "claims"),
)
# The time is compared in a way that no index knows, or on a small table the plan is to read all that is claimable.
# The commit need not wait for the disk: it leases, and no more. (A setting that is local ends with the statement.)
LEASE_PLAIN = (
    "WITH lazy AS MATERIALIZED (SELECT set_config('synchronous_commit', 'off', true) AS word), "
    "w AS MATERIALIZED (SELECT wanted.*, @now AS now_us FROM lazy CROSS JOIN @wanted WHERE lazy.word = 'off'), "
    f"had AS MATERIALIZED (SELECT i.part, w.now_us, {columns(_COLUMNS, 'i')} FROM w JOIN @instances AS i "
    f"ON {' AND '.join(f'i.{name} = w.{name}' for name in RUN_KEY)} WHERE i.state = 'running' AND i.sent = 0 "
    f"AND i.claims < {MAX_CLAIMS} AND coalesce(i.claimable_at_us, w.now_us + 1) <= w.now_us LIMIT ? "
    "FOR UPDATE OF i SKIP LOCKED), "
    "leased AS (UPDATE @instances AS t SET claims = t.claims + 1, lease_owner = ?, claim_token = ?, "
    "lease_until_us = w.now_us + ?, claimable_at_us = w.now_us + ?, "
    "ready_at_us = CASE WHEN t.wake_at_us > w.now_us THEN t.wake_at_us END "
    "FROM had AS w WHERE t.part = w.part AND t.instance_id = w.instance_id) "
    f"SELECT w.now_us, {columns(_COLUMNS, 'w')}, h.events, h.lengths FROM had AS w LEFT JOIN @history AS h "
    f"ON {' AND '.join(f'h.{name} = w.{name}' for name in RUN_KEY)} AND h.first_number = 1 AND w.head_number = 1"
)


async def lease_plain(
    session: Session, claimant: Claimant, limit: int, keys: Sequence[RunKey]
) -> tuple[int, list[WorkflowTask]]:
    """The store's time (0 if none was had), and up to ``limit`` of these, leased; first those that come first."""
    lease_us = claimant.lease_us
    values = (limit, claimant.worker_id, claimant.token, lease_us, lease_us)
    wanted = Wanted(RUN_KEY, [(part(key.instance_id), *key) for key in keys])
    rows = await session.fetch_wanted(LEASE_PLAIN, wanted, *values)
    rank = {key: n for n, key in enumerate(keys)}
    rows.sort(key=lambda row: rank[RunKey(*row[1:3])])
    return (rows[0][0] if rows else 0), [_task(row) for row in rows]


def _task(row: Row) -> WorkflowTask:
    """What `durable.backends.sql.changes.workflow_task` would make of it."""
    _, instance_id, run_id, workflow, version, queue, number, token, history_bytes, *more = row
    (
        parent_id,
        parent_run_id,
        parent_number,
        parent_close,
        wake_at_us,
        deadline_us,
        first_run_id,
        claims,
        *first,
    ) = more
    events = whole(first[0], first[1], 1) if first[0] is not None else None
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
        messages=(),
        seen=0,
        claims=claims + 1,
        parent=parent,
        wake_at_us=wake_at_us,
        deadline_us=deadline_us,
        first_run_id=first_run_id,
        events=None if events is None else tuple(events),
    )
