"""Judges the making of runs: `create`, the children of checkpoints, and the next run of an instance."""

from __future__ import annotations

from durable.backends.limits import refuse_instance
from durable.backends.records import (
    MAX_UNREAD_MESSAGES,
    Created,
    Existing,
    HeldLease,
    NewInstance,
    Refused,
    Taken,
    part_of,
)
from durable.backends.sql.ending import end_run
from durable.backends.sql.inbox import put
from durable.backends.sql.ledger import Events, Ledger, RunKey
from durable.backends.sql.rows import RunRow, dump_mapping


def judge_create(ledger: Ledger, new: NewInstance) -> Created | Existing | Taken | Refused:
    """A run that a client asks for."""
    if refused := refuse_instance(new):
        return refused
    return create(ledger, new)


def create(ledger: Ledger, new: NewInstance) -> Created | Existing | Taken | Refused:
    """Make a run, unless it was made before or the id is taken."""
    row = ledger.runs[new.instance_id]
    if row is not None:
        if ledger.run(new.instance_id, new.run_id) is not None:
            return Created(run_id=new.run_id)
        if row.open:
            if new.if_exists == "use" and row.workflow == new.workflow:
                return _use(ledger, row, new)
            if new.if_exists != "replace" or new.replaces is None:
                return Taken(run_id=row.run_id, workflow=row.workflow, state=row.state)
            end_run(ledger, row, new.replaces)
        ledger.archive(row)
        ledger.forget_keys(new.instance_id)
    made = _row(ledger, new)
    if row is not None:
        made.sent = made.seen = row.sent
    if new.timeout_us is not None:
        made.deadline_us = made.overdue_at_us = ledger.now_us + new.timeout_us
    _count_child(ledger, made)
    _enter(ledger, made, new)
    return Created(run_id=new.run_id)


def _use(ledger: Ledger, row: RunRow, new: NewInstance) -> Existing | Refused:
    fresh = {one.key for one in new.messages if not ledger.knows_key(one.instance_id, one.key)}
    if row.sent - row.seen + len(fresh) > MAX_UNREAD_MESSAGES:
        return Refused(
            reason=f"{new.instance_id!r} has {MAX_UNREAD_MESSAGES} unread messages and takes no more"
        )
    _put_messages(ledger, row, new)
    return Existing(run_id=row.run_id)


def follow(
    ledger: Ledger, old: RunRow, new: NewInstance, *, paused_for: tuple[str | None] | None, left_unread: bool
) -> None:
    """Make the next run of an instance whose current run was just closed.

    ``paused_for`` (a reason): people paused the instance, not only this life of it.
    ``left_unread``: there are messages for it.
    """
    made = _row(ledger, new)
    made.sent, made.seen = old.sent, old.seen
    made.status, made.vars = old.status, old.vars
    made.tags = old.tags
    made.parent_id, made.parent_run_id = old.parent_id, old.parent_run_id
    made.parent_number, made.parent_close = old.parent_number, old.parent_close
    made.deadline_us = made.overdue_at_us = old.deadline_us
    made.first_run_id = old.first_run_id
    ledger.archive(old)
    if paused_for is not None:
        made.state, made.reason = "paused", paused_for[0]
    _enter(ledger, made, new)
    if left_unread:
        made.become_ready(ledger.now_us)


def _enter(ledger: Ledger, made: RunRow, new: NewInstance) -> None:
    ledger.runs[new.instance_id] = made
    ledger.history.append(Events(made.part, made.instance_id, made.run_id, 1, new.events))
    made.ready_at_us = max(ledger.now_us, new.start_at_us or 0)
    if new.lease is not None:
        _lease(ledger, made, new.lease)
    made.settle()
    if made.ready_at_us is not None:  # else its writer has it
        ledger.topics.add("workflow")
    _put_messages(ledger, made, new)


def _lease(ledger: Ledger, made: RunRow, lease: HeldLease) -> None:
    made.lease_owner, made.lease_until_us = lease.worker_id, ledger.now_us + lease.lease_us
    made.claims = 1
    if made.ready_at_us is not None and made.ready_at_us <= ledger.now_us:
        made.ready_at_us = None  # its writer knows that it was just made


def _put_messages(ledger: Ledger, row: RunRow, new: NewInstance) -> None:
    for message in new.messages:
        if not ledger.knows_key(message.instance_id, message.key):
            put(ledger, row, message)


def _count_child(ledger: Ledger, made: RunRow) -> None:
    parent = made.parent
    if parent is None or parent.close == "abandon":
        return
    row = ledger.run(parent.instance_id, parent.run_id)
    if row is not None and row.open:
        row.children += 1
    elif row is not None:
        # The parent has ended meanwhile: somebody has to be told to close this child too.
        ledger.closings[RunKey(row.instance_id, row.run_id)] = None


def _row(ledger: Ledger, new: NewInstance) -> RunRow:
    now, parent = ledger.now_us, new.parent
    return RunRow(
        part=part_of(new.instance_id),
        instance_id=new.instance_id,
        run_id=new.run_id,
        workflow=new.workflow,
        version=new.version,
        queue=new.queue,
        state="running",
        status=None,
        tags=dump_mapping(new.tags),
        vars="{}",
        parent_id=parent.instance_id if parent else None,
        parent_run_id=parent.run_id if parent else None,
        parent_number=parent.number if parent else None,
        parent_close=parent.close if parent else None,
        head_number=len(new.events),
        head_token=new.head.token,
        history_bytes=sum(map(len, new.events)),
        sent=0,
        seen=0,
        children=0,
        ready_at_us=None,
        wake_at_us=None,
        claims=0,
        lease_owner=None,
        lease_until_us=None,
        claim_token=None,
        claimable_at_us=None,
        start_at_us=new.start_at_us,
        deadline_us=None,
        overdue_at_us=None,
        created_at_us=now,
        updated_at_us=now,
        closed_at_us=None,
        result=None,
        failure=None,
        reason=None,
        problem=None,
        problem_build=None,
        problem_stalls=None,
        retry_at_us=None,
        retryable_at_us=None,
        next_run_id=None,
        first_run_id=new.run_id,
    )
