"""What goes with a run when it ends, however it ends: its tasks and messages; what its parent and children hear."""

from __future__ import annotations

from durable.backends.records import CHILD_CLOSED, Close, End
from durable.backends.sql.ledger import Ledger, RunKey
from durable.backends.sql.rows import RunRow


def close_run(ledger: Ledger, row: RunRow, close: Close, *, followed_by: str | None = None) -> None:
    """End an unfinished run. ``followed_by``: the run id of the instance's next run, which keeps the messages."""
    row.state = close.state
    row.result, row.failure = close.result, close.failure
    row.closed_at_us = row.updated_at_us = ledger.now_us
    row.next_run_id = followed_by
    row.wake_at_us = row.reason = None
    row.problem = row.problem_build = row.problem_stalls = row.retry_at_us = None
    row.claims = 0
    row.unlease()
    row.settle()
    ledger.clear_inbox(row, only_of_run=followed_by is not None)
    ledger.drop_activities(row)
    ledger.topics.add("closed")
    ledger.ended.add(row.instance_id)
    if row.children:
        ledger.closings[RunKey(row.instance_id, row.run_id)] = None
        ledger.topics.add("workflow")
    tell_parent(ledger, row, close)


def tell_parent(ledger: Ledger, row: RunRow, close: Close) -> None:
    """Send the run's parent the body that is meant for it, if that run still goes on."""
    if close.parent_body is None or row.parent_id is None or row.parent_run_id is None:
        return
    parent = ledger.current(row.parent_id, row.parent_run_id)
    if parent is not None:
        ledger.put(parent, f"closed/{row.run_id}", CHILD_CLOSED, close.parent_body, parent.run_id)


def end_run(ledger: Ledger, row: RunRow, end: End) -> None:
    """End an unfinished run from outside."""
    ledger.append(row, (end.event,))
    row.head_token = end.token
    close_run(ledger, row, end.close)
    row.reason = end.reason
