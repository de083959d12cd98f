"""From what a run asked for to what is written: a pure translation, one arm per command."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from types import MappingProxyType
from typing import assert_never, cast

from durable.backends import records
from durable.backends.records import (
    Absorbed,
    Checkpoint,
    Close,
    Head,
    HeldLease,
    NewActivity,
    NewInstance,
    NewMessage,
    OutboxEvent,
    Parent,
    ParentClose,
    Reply,
    Send,
    WorkflowTask,
)
from durable.client.endings import close_of
from durable.core import commands, messages
from durable.core.commands import EndOfRun
from durable.core.events import RunStarted, encode_event
from durable.core.ids import first_token, new_token, open_token
from durable.core.replay import Outcome

NO_LEASES: Mapping[int, HeldLease] = MappingProxyType({})


class Draft:
    """A checkpoint in the making."""

    def __init__(self, task: WorkflowTask) -> None:
        self._task = task
        self.activities: list[NewActivity] = []
        self.withdrawn: list[int] = []
        self.sends: list[Send] = []
        self.children: list[records.StartChild] = []
        self.replies: list[Reply] = []

    def add(self, command: commands.Command, lease: HeldLease | None) -> None:
        """Carry out one command on paper."""
        match command:
            case commands.ScheduleActivity():
                self.activities.append(_activity(command, lease))
            case commands.CancelActivity(number=number):
                self.withdrawn.append(number)
            case commands.StartChild():
                self.children.append(records.StartChild(instance=self._child(command), number=command.number))
            case commands.SendSignal(name=name, payload=payload):
                self._send(command, messages.SIGNAL, messages.signal_body(name, payload))
            case commands.SendCancel(reason=reason):
                self._send(command, messages.CANCEL, messages.cancel_body(reason))
            case commands.FinishUpdate(key=key, result=result, failure=failure, rejected=rejected):
                body = messages.answer_body(result, failure, rejected=rejected)
                self.replies.append(Reply(id=key, instance_id=self._task.instance_id, body=body))
            case (
                commands.StartTimer()
                | commands.CancelTimer()
                | commands.RecordSideEffect()
                | commands.RecordPatches()
                | commands.CompleteRun()
                | commands.FailRun()
                | commands.CancelRun()
                | commands.ContinueRun()
            ):
                pass
            case _:
                assert_never(command)

    def forget_stillborn(self) -> None:
        """What is scheduled and cancelled in one checkpoint has its events, but never becomes a task."""
        if self.activities and self.withdrawn:
            over = {new.number for new in self.activities} & {*self.withdrawn}
            self.activities = [new for new in self.activities if new.number not in over]
            self.withdrawn = [number for number in self.withdrawn if number not in over]

    def _send(self, command: commands.SendSignal | commands.SendCancel, kind: str, body: str) -> None:
        message = NewMessage(
            instance_id=command.instance_id,
            run_id=command.run_id,
            key=f"{self._task.run_id}/{command.number}",
            kind=kind,
            body=body,
        )
        self.sends.append(Send(message=message, number=command.number))

    def _child(self, command: commands.StartChild) -> NewInstance:
        task = self._task
        parent = Parent(
            instance_id=task.instance_id,
            run_id=task.run_id,
            number=command.number,
            close=cast(ParentClose, command.close),
        )
        started = RunStarted(
            time_us=command.started_us,
            workflow=command.workflow,
            args=command.args,
            queue=command.queue,
            version=command.version,
            headers=command.headers,
        )
        return _begun_by(started, command.instance_id, command.run_id, parent, command.timeout_us)


def checkpoint_of(
    task: WorkflowTask,
    head: Head,
    outcome: Outcome,
    *,
    consumed: tuple[int, ...],
    seen: int,
    absorbed: Iterable[Absorbed] = (),
    answered: Collection[int] = (),
    leases: Mapping[int, HeldLease] = NO_LEASES,
    kept: int = 0,
    lease: HeldLease | None = None,
) -> Checkpoint:
    """The checkpoint that writes ``outcome`` on top of ``head``.

    ``leases``, by number, are those of the activities that this worker goes on with: they are born leased to it.
    ``answered`` have their result among the events already, and need no row. So many as ``kept`` of the last commands
    are left for the next checkpoint.
    """
    events = outcome.events[: len(outcome.events) - kept]
    draft = Draft(task)
    for command in outcome.commands[: len(outcome.commands) - kept]:
        number = getattr(command, "number", 0)
        if number not in answered or not isinstance(command, commands.ScheduleActivity):
            draft.add(command, leases.get(number))
    close, next_run = _end(task, outcome.end, outcome)
    draft.forget_stillborn()
    return Checkpoint(
        instance_id=task.instance_id,
        run_id=task.run_id,
        head=head,
        new_head=Head(number=head.number + len(events), token=open_token() if kept else new_token()),
        events=tuple(map(encode_event, events)),
        consumed=consumed,
        seen=seen,
        activities=() if close else tuple(draft.activities),
        withdrawn=tuple(draft.withdrawn),
        absorbed=tuple(absorbed),
        sends=tuple(draft.sends),
        children=tuple(draft.children),
        replies=tuple(draft.replies),
        outbox=tuple([_outbox(task.run_id, event) for event in outcome.published]),
        status=outcome.status,
        vars=outcome.vars,
        wake_at_us=None if close else outcome.wake_at_us,
        fired_until_us=outcome.fired_until_us,
        close=close,
        next_run=next_run,
        lease=None if close else lease,
    )


def _activity(command: commands.ScheduleActivity, lease: HeldLease | None) -> NewActivity:
    return NewActivity(
        number=command.number,
        name=command.name,
        queue=command.queue,
        payload=command.args,
        options=command.options,
        queue_timeout_us=command.queue_timeout_us,
        lease=lease,
    )


def _outbox(run_id: str, event: commands.Publish) -> OutboxEvent:
    return OutboxEvent(
        id=f"{run_id}/{event.number}",
        topic=event.topic,
        payload=event.payload,
        key=event.key,
        headers=event.headers,
    )


def _end(
    task: WorkflowTask, end: EndOfRun | None, outcome: Outcome
) -> tuple[Close | None, NewInstance | None]:
    match end:
        case None:
            return None, None
        case commands.CompleteRun(result=result):
            return close_of(task.parent, "completed", result=result), None
        case commands.FailRun(failure=failure):
            return close_of(task.parent, "failed", failure=failure), None
        case commands.CancelRun(reason=reason):
            return close_of(task.parent, "cancelled", failure=messages.reason_failure(reason)), None
        case commands.ContinueRun():
            return Close(state="continued_as_new"), _next_run(task, end, outcome)
        case _:
            assert_never(end)


def _next_run(task: WorkflowTask, end: commands.ContinueRun, outcome: Outcome) -> NewInstance:
    started = RunStarted(
        time_us=outcome.events[-1].time_us,
        workflow=task.workflow,
        args=end.args,
        queue=task.queue,
        version=task.version,
        headers=end.headers,
        signals=end.signals,
        updates=end.updates,
        previous_run_id=task.run_id,
    )
    return _begun_by(started, task.instance_id, end.run_id, task.parent)


def _begun_by(
    started: RunStarted, instance_id: str, run_id: str, parent: Parent | None, timeout_us: int | None = None
) -> NewInstance:
    """The run whose first event is ``started``."""
    return NewInstance(
        instance_id=instance_id,
        run_id=run_id,
        workflow=started.workflow,
        version=started.version,
        queue=started.queue,
        events=(encode_event(started),),
        head=Head(number=1, token=first_token(run_id)),
        parent=parent,
        timeout_us=timeout_us,
    )
