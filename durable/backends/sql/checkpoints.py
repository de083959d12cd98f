"""Judges `commit`: a checkpoint is written whole if its run's head still stands, else not at all."""

from __future__ import annotations

from durable.backends.limits import refuse_checkpoint
from durable.backends.records import (
    MAX_MESSAGES_PER_TASK,
    OUTCOME,
    Accepted,
    Checkpoint,
    Close,
    Created,
    Finished,
    Full,
    Lost,
    Message,
    MoreMessages,
    NewMessage,
    NotFound,
    OutcomeWord,
    Paused,
    Refused,
    Send,
    StartChild,
    TooEarly,
    Verdict,
)
from durable.backends.sql.attempts import new_activity
from durable.backends.sql.creating import create, follow
from durable.backends.sql.ending import close_run
from durable.backends.sql.inbox import deliver
from durable.backends.sql.ledger import Ledger, OutboxRow
from durable.backends.sql.rows import RunRow, dump_mapping, load_mapping


def judge_checkpoint(ledger: Ledger, checkpoint: Checkpoint) -> Verdict:
    """Judge, and if it is accepted enter all that it carries."""
    if refused := refuse_checkpoint(checkpoint):
        return refused
    row = ledger.run(checkpoint.instance_id, checkpoint.run_id)
    if row is None:
        return Lost()
    if row.head_token == checkpoint.new_head.token and row.head_number == checkpoint.new_head.number:
        return _accepted(ledger, row, checkpoint)
    if verdict := _objection(ledger, row, checkpoint):
        return verdict
    return _enter(ledger, row, checkpoint)


def _objection(ledger: Ledger, row: RunRow, checkpoint: Checkpoint) -> Verdict | None:
    if row.head_token != checkpoint.head.token or row.head_number != checkpoint.head.number or not row.open:
        return Lost()
    for absorbed in checkpoint.absorbed:
        activity = ledger.activity(row.instance_id, row.run_id, absorbed.number)
        if activity is None or activity.token != absorbed.token:
            return Lost()
    if checkpoint.fired_until_us is not None and checkpoint.fired_until_us > ledger.now_us:
        return TooEarly()
    if checkpoint.close is not None and (more := _unseen(ledger, row, checkpoint)):
        return MoreMessages(messages=more[:MAX_MESSAGES_PER_TASK])
    return _clash(ledger, row, checkpoint)


def _clash(ledger: Ledger, row: RunRow, checkpoint: Checkpoint) -> Refused | None:
    """Numbers and run ids that are there already, as far as the batch knows; the tables' keys know the rest."""
    numbers = [activity.number for activity in checkpoint.activities]
    there = any(ledger.activity(row.instance_id, row.run_id, number) is not None for number in numbers)
    if there or len(set(numbers)) < len(numbers):
        return Refused(reason=f"{row.instance_id!r} already has an activity of one of the numbers {numbers}")
    new = checkpoint.next_run
    if new is not None and ledger.run(new.instance_id, new.run_id) is not None:
        return Refused(reason=f"{new.instance_id!r} already has a run {new.run_id!r}")
    return None


def _unseen(ledger: Ledger, row: RunRow, checkpoint: Checkpoint) -> tuple[Message, ...]:
    """What the checkpoint has not looked at."""
    consumed = set(checkpoint.consumed)
    return tuple(
        Message(number=one.number, key=one.key, kind=one.kind, body=one.body, sent_at_us=one.sent_at_us)
        for one in ledger.unread_of(row.instance_id)
        if one.number > checkpoint.seen and one.number not in consumed
    )


def _enter(ledger: Ledger, row: RunRow, checkpoint: Checkpoint) -> Verdict:
    _enter_record(ledger, row, checkpoint)
    row.ready_at_us = ledger.now_us if _is_unread(ledger, row, checkpoint) else checkpoint.wake_at_us
    row.settle()
    _enter_activities(ledger, row, checkpoint)
    ledger.outbox += [OutboxRow(row, event) for event in checkpoint.outbox]
    for reply in checkpoint.replies:
        ledger.replies.setdefault((reply.instance_id, reply.id), reply.body)
        ledger.topics.add("reply")
    _enter_effects(ledger, row, checkpoint)
    if checkpoint.close is not None:
        _close(ledger, row, checkpoint, checkpoint.close)
    elif row.ready_at_us is not None:
        ledger.topics.add("workflow")
    return _accepted(ledger, row, checkpoint)


def _enter_record(ledger: Ledger, row: RunRow, checkpoint: Checkpoint) -> None:
    now = ledger.now_us
    ledger.append(row, checkpoint.events)
    row.head_token = checkpoint.new_head.token
    ledger.consume(row, checkpoint.consumed)
    row.seen = checkpoint.seen
    row.updated_at_us = now
    row.claims = 0
    if checkpoint.status is not None:
        row.status = checkpoint.status
    if checkpoint.vars:
        row.vars = dump_mapping({**load_mapping(row.vars), **checkpoint.vars})
    if row.state == "stalled":
        row.state = "running"
    row.problem = row.problem_build = row.problem_stalls = row.retry_at_us = None
    row.wake_at_us = checkpoint.wake_at_us
    row.unlease()
    if checkpoint.lease is not None:
        row.lease_owner, row.lease_until_us = checkpoint.lease.worker_id, now + checkpoint.lease.lease_us


def _enter_activities(ledger: Ledger, row: RunRow, checkpoint: Checkpoint) -> None:
    for number in checkpoint.withdrawn:
        ledger.drop_activity(row.instance_id, row.run_id, number)
    for absorbed in checkpoint.absorbed:
        ledger.drop_activity(row.instance_id, row.run_id, absorbed.number)
    if checkpoint.close is None:  # else they would go at once
        for activity in checkpoint.activities:
            ledger.add_new_activity(new_activity(ledger.now_us, row, activity))


def _enter_effects(ledger: Ledger, row: RunRow, checkpoint: Checkpoint) -> None:
    """What it does to other instances, in the order of the commands: a new child may be sent to at once.

    Each outcome comes back as a message on which the sender waits.
    """
    effects: list[Send | StartChild] = [*checkpoint.sends, *checkpoint.children]
    for effect in sorted(effects, key=lambda one: one.number):
        if isinstance(effect, Send):
            _come_back(ledger, row, effect.number, _deliver(ledger, effect.message))
        else:
            started = isinstance(create(ledger, effect.instance), Created)
            _come_back(ledger, row, effect.number, "started" if started else "taken")


def _deliver(ledger: Ledger, message: NewMessage) -> OutcomeWord:
    match deliver(ledger, message):
        case NotFound():
            return "not_found"
        case Finished():
            return "finished"
        case Full():
            return "full"
        case _:
            return "delivered"


def _come_back(ledger: Ledger, row: RunRow, number: int, word: OutcomeWord) -> None:
    ledger.put(row, f"outcome/{row.run_id}/{number}", OUTCOME, f"{number} {word}", row.run_id)


def _close(ledger: Ledger, row: RunRow, checkpoint: Checkpoint, close: Close) -> None:
    paused, reason, following = row.state == "paused", row.reason, checkpoint.next_run
    left = [one.number for one in ledger.unread_of(row.instance_id) if one.run_id is None]
    close_run(ledger, row, close, followed_by=following.run_id if following else None)
    if following is not None:
        # What is left is new to the next run; numbers beyond it were of messages that went with the old run.
        row.seen = left[0] - 1 if left else row.sent
        follow(ledger, row, following, paused_for=(reason,) if paused else None, left_unread=bool(left))


def _is_unread(ledger: Ledger, row: RunRow, checkpoint: Checkpoint) -> bool:
    return row.sent > checkpoint.seen and any(
        one.number > checkpoint.seen for one in ledger.unread_of(row.instance_id)
    )


def _accepted(ledger: Ledger, row: RunRow, checkpoint: Checkpoint) -> Verdict:
    """The answer to a checkpoint that is written, the first time and each time that it is repeated."""
    last = ledger.run(row.instance_id, row.next_run_id) if row.next_run_id else row
    if last is None or not last.open:
        return Accepted()
    if last.state == "paused":
        return Paused()
    return Accepted(unread=_is_unread(ledger, last, checkpoint))
