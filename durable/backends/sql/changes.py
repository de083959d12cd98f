"""Judges what is done to runs without code: `change`, leases of runs, and their claims."""

from __future__ import annotations

import json

from durable.backends.limits import refuse_change
from durable.backends.records import (
    MAX_CLAIMS,
    Accepted,
    Cancelled,
    Change,
    Claimant,
    End,
    Extended,
    Finished,
    Lost,
    Message,
    NotFound,
    Pause,
    Problem,
    Refused,
    Resume,
    Stall,
    WorkflowLease,
    WorkflowTask,
)
from durable.backends.sql.ending import end_run
from durable.backends.sql.ledger import Ledger
from durable.backends.sql.rows import RunRow

Changed = Accepted | NotFound | Finished | Lost | Refused


def judge_change(ledger: Ledger, change: Change) -> Changed:
    """Pause, resume, end or stall a run."""
    if refused := refuse_change(change):
        return refused
    row = ledger.run(change.ref.instance_id, change.ref.run_id)
    if row is None:
        return NotFound()
    if isinstance(change, End) and _ended_before(ledger, row, change):
        return Accepted()
    if not row.open:
        return Finished(state=row.state)
    match change:
        case Pause():
            _pause(ledger, row, change)
        case Resume():
            _resume(ledger, row)
        case End():
            end_run(ledger, row, change)
        case Stall():
            return _stall(ledger, row, change)
    return Accepted()


def _ended_before(ledger: Ledger, row: RunRow, change: End) -> bool:
    # Also of an earlier run: repeated late, it must not end a run that was made since.
    if row.head_token == change.token or (row.instance_id, change.token) in ledger.ended_by:
        return True
    return any(
        key.instance_id == row.instance_id and old.head_token == change.token
        for key, old in ledger.archived.items()
    )


def _pause(ledger: Ledger, row: RunRow, change: Pause) -> None:
    if row.state == "paused":
        return
    row.state = "paused"
    row.reason = change.reason
    row.updated_at_us = ledger.now_us
    row.settle()
    ledger.hold_activities(row, True)


def _resume(ledger: Ledger, row: RunRow) -> None:
    if row.state == "running":
        return
    if row.state == "paused":
        ledger.hold_activities(row, False)
    row.state = "running"
    if row.problem is not None:  # or the run that was claimed ten times would be parked again at once
        row.claims = 0
    row.reason = row.problem = row.problem_build = row.problem_stalls = row.retry_at_us = None
    row.updated_at_us = ledger.now_us
    row.become_ready(ledger.now_us)
    ledger.topics.add("workflow")


def _stall(ledger: Ledger, row: RunRow, change: Stall) -> Changed:
    if row.head != change.head:
        return Lost()
    stall(ledger, row, change.problem, ledger.now_us + change.retry_after_us)
    return Accepted()


def stall(ledger: Ledger, row: RunRow, problem: Problem, retry_at_us: int) -> None:
    """Park a run. A paused one stays paused, but says what is wrong with it."""
    if row.state != "paused":
        row.state = "stalled"
    row.problem, row.problem_build, row.problem_stalls = problem.report, problem.build, problem.stalls
    row.retry_at_us = retry_at_us
    row.updated_at_us = ledger.now_us
    row.unlease()
    row.settle()


# --- leases


def judge_extension(ledger: Ledger, lease: WorkflowLease) -> Extended | Cancelled | Lost:
    """Renew the lease of a run, also one that ran out, if no other worker has it."""
    row = ledger.current(lease.instance_id, lease.run_id)
    if row is None:
        return Cancelled()
    if row.lease_owner != lease.worker_id:
        return Lost()
    row.lease_until_us = ledger.now_us + lease.lease_us
    row.settle()
    return Extended()


def judge_release(ledger: Ledger, lease: WorkflowLease) -> Accepted | Lost:
    """Give back a run that was not begun: ready at once, and the claim is not counted."""
    row = ledger.current(lease.instance_id, lease.run_id)
    if row is None or row.lease_owner != lease.worker_id:
        return Lost()
    row.claims = max(0, row.claims - 1)
    row.unlease()
    row.become_ready(ledger.now_us)
    ledger.topics.add("workflow")
    return Accepted()


# --- claims

NEVER_US = 2**62
"""The retry time of a run that time does not heal."""


def take_run(ledger: Ledger, row: RunRow, claimant: Claimant) -> bool:
    """Hand a run that is ready to a worker; or park it, if ten claims have come to nothing."""
    if row.claims >= MAX_CLAIMS and not _is_held_by(ledger, row, claimant):
        build = next((one.build for one in claimant.workflows if one.workflow == row.workflow), "")
        text = f"claimed {row.claims} times without a checkpoint, last by worker {row.lease_owner}"
        report = json.dumps({"kind": "worker_lost", "message": text})
        stall(ledger, row, Problem(report=report, build=build), NEVER_US)
        return False
    lease_run(ledger, row, claimant)
    return True


def lease_run(ledger: Ledger, row: RunRow, claimant: Claimant) -> None:
    """Count the claim, and take in all that made the run ready: it is ready again when something new happens.

    A worker that is handed what it holds, because there is news, is alive: that claim is not counted.
    """
    now = ledger.now_us
    if not _is_held_by(ledger, row, claimant):
        row.claims += 1
    row.lease_owner, row.lease_until_us = claimant.worker_id, now + claimant.lease_us
    row.claim_token = claimant.token
    row.ready_at_us = row.wake_at_us if row.wake_at_us is not None and row.wake_at_us > now else None
    row.settle()


def _is_held_by(ledger: Ledger, row: RunRow, claimant: Claimant) -> bool:
    until_us = row.lease_until_us
    return row.lease_owner == claimant.worker_id and until_us is not None and until_us > ledger.now_us


def workflow_task(
    row: RunRow,
    messages: tuple[Message, ...],
    *,
    all_of_them: bool,
    events: tuple[bytes, ...] | None = None,
) -> WorkflowTask:
    """What the worker is handed. ``all_of_them``: the inbox holds no message beyond these.

    ``events``: all that the run has. Worth reading for a run with one event, which is a run that was just made.
    """
    seen = row.sent if all_of_them else messages[-1].number
    return WorkflowTask(
        instance_id=row.instance_id,
        run_id=row.run_id,
        workflow=row.workflow,
        version=row.version,
        queue=row.queue,
        state=row.state,
        head=row.head,
        history_bytes=row.history_bytes,
        messages=messages,
        seen=seen,
        claims=row.claims,
        parent=row.parent,
        wake_at_us=row.wake_at_us,
        deadline_us=row.deadline_us,
        first_run_id=row.first_run_id,
        events=events,
    )
