"""Records in short: the fields that a law is about are given, the others are filled in.

Every token that is not given is new, so that two records made alike are never taken for one repeated.
"""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

from durable.backends.records import (
    ActivityFinished,
    ActivityLease,
    ActivityRef,
    ActivityTask,
    Checkpoint,
    Claimant,
    Close,
    Definition,
    End,
    Head,
    HeldLease,
    InstanceRef,
    NewActivity,
    NewInstance,
    NewMessage,
    Send,
    StartChild,
    WorkflowLease,
    WorkflowTask,
)

QUEUE = "default"
WORKFLOW = "Order"
ACTIVITY = "charge"

Position = NewInstance | WorkflowTask | Checkpoint
"""What says where a run stands: its ids and its head."""

_numbers = itertools.count(1)


def fresh(prefix: str) -> str:
    """A text that was not given out before."""
    return f"{prefix}{next(_numbers)}"


def new(instance_id: str = "a", run_id: str | None = None, **fields: Any) -> NewInstance:
    """A run to be made: of workflow ``Order`` on queue ``default``, with one event."""
    events = fields.pop("events", (b"started",))
    plain = NewInstance(
        instance_id=instance_id,
        run_id=run_id if run_id is not None else f"{instance_id}-1",
        workflow=WORKFLOW,
        queue=QUEUE,
        events=events,
        head=Head(number=len(events), token=fresh("head")),
    )
    return replace(plain, **fields)


def head_of(at: Position) -> Head:
    """Where the run stands after this."""
    return at.new_head if isinstance(at, Checkpoint) else at.head


def step(at: Position, *events: bytes, **fields: Any) -> Checkpoint:
    """The next checkpoint of a run: one event, if none is given."""
    events = events or (b"event",)
    head = head_of(at)
    plain = Checkpoint(
        instance_id=at.instance_id,
        run_id=at.run_id,
        head=head,
        new_head=Head(number=head.number + len(events), token=fresh("head")),
        events=events,
        seen=at.seen if isinstance(at, WorkflowTask | Checkpoint) else 0,
    )
    return replace(plain, **fields)


def done(at: Position, **fields: Any) -> Checkpoint:
    """A checkpoint that completes the run."""
    fields.setdefault("close", Close(state="completed", result='"done"'))
    return step(at, b"completed", **fields)


def continued(at: Position, run_id: str | None = None, **fields: Any) -> Checkpoint:
    """A checkpoint that continues the instance as a new run."""
    fields.setdefault("next_run", new(at.instance_id, run_id or fresh("next-run")))
    return step(at, b"continued", close=Close(state="continued_as_new"), **fields)


def message(instance_id: str = "a", key: str | None = None, **fields: Any) -> NewMessage:
    """A signal."""
    plain = NewMessage(instance_id=instance_id, key=key or fresh("key"), kind="signal", body='"hello"')
    return replace(plain, **fields)


def signal(number: int, to: str, key: str | None = None, **fields: Any) -> Send:
    """A checkpoint's signal to another instance."""
    return Send(message=message(to, key, **fields), number=number)


def child(number: int, instance: NewInstance) -> StartChild:
    """A checkpoint's new instance. Who the parent is stands in ``instance.parent``."""
    return StartChild(instance=instance, number=number)


def activity(number: int = 1, **fields: Any) -> NewActivity:
    """An activity task of the activity ``charge``."""
    plain = NewActivity(number=number, name=ACTIVITY, queue=QUEUE, payload="[100]", options="{}")
    return replace(plain, **fields)


def finished(task: ActivityTask, **fields: Any) -> ActivityFinished:
    """The outcome of an attempt that went well."""
    plain = ActivityFinished(ref=task.ref, token=task.token, kind="activity_completed", body='"paid"')
    return replace(plain, **fields)


def ended(instance_id: str = "a", run_id: str | None = None, **fields: Any) -> End:
    """A termination from outside."""
    plain = End(
        ref=InstanceRef(instance_id=instance_id, run_id=run_id),
        event=b"terminated",
        token=fresh("end"),
        close=Close(state="terminated", failure="stopped"),
    )
    return replace(plain, **fields)


def claimant(worker_id: str, lease_us: int, **fields: Any) -> Claimant:
    """A worker that has the code of ``Order`` and ``charge``; a new token."""
    plain = Claimant(
        worker_id=worker_id,
        token=fresh("attempt"),
        lease_us=lease_us,
        queues=(QUEUE,),
        workflows=(Definition(workflow=WORKFLOW),),
        activities=(ACTIVITY,),
    )
    return replace(plain, **fields)


def held(worker_id: str, lease_us: int, token: str | None = None) -> HeldLease:
    """A lease to be born with."""
    return HeldLease(worker_id=worker_id, token=token or fresh("attempt"), lease_us=lease_us)


def workflow_lease(at: Position, worker_id: str, lease_us: int = 0) -> WorkflowLease:
    """A worker's claim on a run, to be extended or released."""
    return WorkflowLease(instance_id=at.instance_id, run_id=at.run_id, worker_id=worker_id, lease_us=lease_us)


def activity_lease(task: ActivityTask, lease_us: int = 0, details: str | None = None) -> ActivityLease:
    """A worker's claim on an attempt, to be extended or released."""
    return ActivityLease(ref=task.ref, token=task.token, lease_us=lease_us, details=details)


def activity_ref(at: Position, number: int = 1) -> ActivityRef:
    """What an activity of a run is called."""
    return ActivityRef(instance_id=at.instance_id, run_id=at.run_id, number=number)
