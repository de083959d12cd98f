"""Judges what concerns activities: new ones, claims, outcomes, leases."""

from __future__ import annotations

from durable.backends.records import (
    Accepted,
    ActivityFinished,
    ActivityLease,
    ActivityOutcome,
    ActivityParked,
    ActivityRetry,
    ActivityTask,
    Cancelled,
    Claimant,
    Extended,
    Lost,
    NewActivity,
)
from durable.backends.sql.ledger import Ledger
from durable.backends.sql.rows import ActivityRow, RunRow


def new_activity(now_us: int, run: RunRow, new: NewActivity) -> ActivityRow:
    """The row of an activity that a checkpoint schedules."""
    lease = new.lease
    limit = new.queue_timeout_us
    row = ActivityRow(
        part=run.part,
        run_id=run.run_id,
        number=new.number,
        instance_id=run.instance_id,
        workflow=run.workflow,
        name=new.name,
        queue=new.queue,
        payload=new.payload,
        options=new.options,
        scheduled_at_us=now_us,
        due_at_us=now_us,
        attempt=1,
        deliveries=1 if lease else 0,
        token=lease.token if lease else None,
        lease_until_us=now_us + lease.lease_us if lease else None,
        details=None,
        failure=None,
        expires_at_us=None if limit is None else now_us + limit,
        parked=0,
        expired=0,
        held=int(run.state == "paused"),
        claimable_at_us=None,
        expirable_at_us=None,
    )
    row.settle()
    return row


def take_activity(now_us: int, row: ActivityRow, claimant: Claimant) -> ActivityTask:
    """Hand an attempt that is ready (or has expired) to a worker."""
    if row.expirable_at_us is not None and row.expirable_at_us <= now_us:
        row.expired, row.parked = 1, 0
    row.deliveries += 1
    row.token = claimant.token
    row.lease_until_us = now_us + claimant.lease_us
    row.settle()
    return row.task(claimant.token, expired=bool(row.expired))


def judge_outcome(ledger: Ledger, outcome: ActivityOutcome) -> Accepted | Lost:
    """What came of an attempt: it counts if its token still stands."""
    ref = outcome.ref
    row = ledger.activity(ref.instance_id, ref.run_id, ref.number)
    if row is None:
        return Lost()
    if row.token != outcome.token:
        again = isinstance(outcome, ActivityParked) and row.parked and row.token == outcome.new_token
        return Accepted() if again else Lost()
    match outcome:
        case ActivityFinished():
            _finish(ledger, row, outcome)
        case ActivityRetry():
            _retry(ledger, row, outcome)
        case ActivityParked():
            _park(ledger, row, outcome)
    return Accepted()


def _finish(ledger: Ledger, row: ActivityRow, outcome: ActivityFinished) -> None:
    ledger.drop_activity(row.instance_id, row.run_id, row.number)
    run = ledger.current(row.instance_id, row.run_id)
    if run is not None:
        key = f"activity/{row.run_id}/{row.number}"
        ledger.put(run, key, outcome.kind, outcome.body, run.run_id)


def _retry(ledger: Ledger, row: ActivityRow, outcome: ActivityRetry) -> None:
    row.attempt += 1
    row.deliveries = row.parked = row.expired = 0
    row.token = row.lease_until_us = row.expires_at_us = None
    row.due_at_us = ledger.now_us + max(0, outcome.delay_us)
    row.failure = outcome.failure
    row.settle()
    ledger.topics.add("activity")


def _park(ledger: Ledger, row: ActivityRow, outcome: ActivityParked) -> None:
    row.parked, row.expired = 1, 0
    row.token, row.lease_until_us = outcome.new_token, None
    row.expires_at_us = None if outcome.timeout_us is None else ledger.now_us + outcome.timeout_us
    row.settle()


def judge_activity_extension(ledger: Ledger, lease: ActivityLease) -> Extended | Cancelled | Lost:
    """Renew the lease of an attempt, and keep its heartbeat."""
    row = ledger.activity(lease.ref.instance_id, lease.ref.run_id, lease.ref.number)
    if row is None:
        return Cancelled()
    if row.token != lease.token or row.lease_until_us is None:
        return Lost()
    row.lease_until_us = ledger.now_us + lease.lease_us
    if lease.details is not None:
        row.details = lease.details
    row.settle()
    return Extended()


def judge_activity_release(ledger: Ledger, lease: ActivityLease) -> Accepted | Lost:
    """Give back an attempt that was not begun."""
    row = ledger.activity(lease.ref.instance_id, lease.ref.run_id, lease.ref.number)
    if row is None or row.token != lease.token or row.lease_until_us is None:
        return Lost()
    row.deliveries = max(0, row.deliveries - 1)
    row.token = row.lease_until_us = None
    row.settle()
    ledger.topics.add("activity")
    return Accepted()
