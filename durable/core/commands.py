"""What a run asked for: one frozen record per command, in the order in which it asked.

Commands that history must remember become decisions (`decision_of`); replay compares them with the recorded ones by
`shape`: kind, number and name. Arguments, delays and options may change between one version of the code and the next.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import assert_never

from durable.core import events
from durable.core.light_records import blank, dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleActivity:
    number: int
    name: str
    args: str
    queue: str
    options: str
    queue_timeout_us: int | None = None


def schedule_activity(
    number: int, name: str, args: str, queue: str, options: str, queue_timeout_us: int | None
) -> ScheduleActivity:
    """The record, quickly."""
    made = blank(ScheduleActivity)
    made.number = number
    made.name = name
    made.args = args
    made.queue = queue
    made.options = options
    made.queue_timeout_us = queue_timeout_us
    return made  # type: ignore[no-any-return]


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelActivity:
    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StartTimer:
    number: int
    due_us: int
    name: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelTimer:
    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StartChild:
    number: int
    workflow: str
    version: str
    instance_id: str
    run_id: str
    args: str
    queue: str
    close: str
    started_us: int
    timeout_us: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class SendSignal:
    number: int
    instance_id: str
    name: str
    payload: str
    run_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SendCancel:
    number: int
    instance_id: str
    reason: str | None = None
    run_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordSideEffect:
    number: int
    value: str
    failure: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordPatches:
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishUpdate:
    number: int
    key: str
    result: str | None = None
    failure: str | None = None
    rejected: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CompleteRun:
    result: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FailRun:
    failure: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelRun:
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ContinueRun:
    run_id: str
    args: str
    signals: tuple[tuple[str, str], ...] = ()
    updates: tuple[tuple[str, str, str], ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)


EndOfRun = CompleteRun | FailRun | CancelRun | ContinueRun
Command = (
    ScheduleActivity | CancelActivity | StartTimer | CancelTimer | StartChild | SendSignal | SendCancel
    | RecordSideEffect | RecordPatches | FinishUpdate | EndOfRun
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Publish:
    """An event for the outbox. Not part of history: what a step published is written with the step."""

    topic: str
    payload: str
    number: int
    key: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


def decision_of(command: Command, time_us: int) -> events.Decision:
    """The event that remembers a command."""
    match command:
        case ScheduleActivity():
            return events.activity_scheduled(
                time_us, command.number, command.name, command.args, command.queue, command.options
            )
        case CompleteRun(result=done):
            return events.RunCompleted(time_us=time_us, result=done)
        case CancelActivity(number=n):
            return events.ActivityCancelled(time_us=time_us, number=n)
        case StartTimer(number=n, due_us=due_us, name=label):
            return events.TimerStarted(time_us=time_us, number=n, due_us=due_us, name=label)
        case CancelTimer(number=n):
            return events.TimerCancelled(time_us=time_us, number=n)
        case StartChild(number=n, workflow=w, instance_id=i, run_id=r, args=args, queue=q):
            return events.ChildScheduled(
                time_us=time_us, number=n, workflow=w, instance_id=i, run_id=r, args=args, queue=q
            )
        case SendSignal(number=n, instance_id=i, name=name, payload=payload):
            return events.SignalSent(time_us=time_us, number=n, instance_id=i, name=name, payload=payload)
        case SendCancel(number=n, instance_id=i, reason=reason):
            return events.CancelSent(time_us=time_us, number=n, instance_id=i, reason=reason)
        case RecordSideEffect(number=n, value=value, failure=failure):
            return events.SideEffectRecorded(time_us=time_us, number=n, value=value, failure=failure)
        case RecordPatches(names=names):
            return events.PatchesRecorded(time_us=time_us, names=names)
        case FinishUpdate(number=n, key=key, result=result, failure=failure, rejected=rejected):
            return events.UpdateFinished(
                time_us=time_us, number=n, key=key, result=result, failure=failure, rejected=rejected
            )
        case FailRun(failure=failed):
            return events.RunFailed(time_us=time_us, failure=failed)
        case CancelRun(reason=reason):
            return events.RunCancelled(time_us=time_us, reason=reason)
        case ContinueRun(run_id=r, args=args):
            return events.RunContinued(time_us=time_us, run_id=r, args=args)
        case _:
            assert_never(command)


def shape(decision: events.Event) -> tuple[str, int | None, str | None]:
    """What replay compares: the kind, the command's number, and the name of what was asked for."""
    named = getattr(decision, "name", None) if not isinstance(decision, events.TimerStarted) else None
    workflow = getattr(decision, "workflow", None)
    return (decision.kind, getattr(decision, "number", None), named or workflow)


def is_remembered_by(command: Command, decision: events.Event) -> bool:
    """Whether a decision has the `shape` of the one that the command would leave."""
    if type(command) is ScheduleActivity:
        return (
            type(decision) is events.ActivityScheduled
            and decision.number == command.number
            and decision.name == command.name
        )
    return shape(decision_of(command, decision.time_us)) == shape(decision)


def describe(decision: events.Event) -> str:
    """A decision in words, for reports: ``activity_scheduled 'charge' (command 3)``."""
    kind, number, name = shape(decision)
    words = kind if name is None else f"{kind} {name!r}"
    return words if number is None else f"{words} (command {number})"
