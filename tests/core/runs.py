"""Histories in, commands out: a run of a workflow function without a worker, written as literal lists.

`run` feeds inputs one at a time and gives what the workflow asked for, each command as one line of text:

    activity 1 charge ["o-1",4200]      timer 2 +1.0       completed "done"
    cancel activity 1                   cancel timer 2     failed ValueError: no

Whatever it is given, it also replays: the whole history, and every prefix of it, must lead to the same commands.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from durable.core import commands, events
from durable.core.commands import Command
from durable.core.context import RunIdentity
from durable.core.events import Event, Input, RunStarted, decode_event, encode_event
from durable.core.failure import Failure, failure_of, known_exceptions
from durable.core.history import turns
from durable.core.payload import Converter, PlainCodec
from durable.core.replay import Outcome, Run, load

START_US = 1_700_000_000_000_000
SECOND = 1_000_000
IDENTITY = RunIdentity(instance_id="order-1", run_id="018bcfe568000000000000000000abcd", first_run_id="first")
CONVERTER = Converter(codec=PlainCodec(), max_payload_bytes=2 * 2**20)


# --- inputs ---------------------------------------------------------------------------------------------------------


def at(seconds: float) -> int:
    return START_US + round(seconds * SECOND)


def started(
    workflow: Any, *args: Any, signals: tuple[tuple[str, str], ...] = (), **kwargs: Any
) -> RunStarted:
    definition = workflow.definition
    payload = CONVERTER.encode_args(definition.signature, args, kwargs, "arguments")
    return RunStarted(
        time_us=START_US, workflow=definition.name, args=payload, queue="default", signals=signals
    )


def done(number: int, value: Any = None, *, time: float = 0) -> Input:
    return events.ActivityCompleted(time_us=at(time), number=number, result=json.dumps(value))


def failed(number: int, error: BaseException, *, time: float = 0) -> Input:
    return events.ActivityFailed(time_us=at(time), number=number, failure=failure_of(error).to_text())


def fired(number: int, *, time: float = 0) -> Input:
    return events.TimerFired(time_us=at(time), number=number)


def signal(name: str, value: Any = None, *, time: float = 0) -> Input:
    return events.SignalReceived(time_us=at(time), name=name, payload=json.dumps(value))


def cancel(reason: str | None = None, *, time: float = 0) -> Input:
    return events.CancelRequested(time_us=at(time), reason=reason)


alive: list[Run] = []
"""Every run that was made; the tests' fixture drops them."""

# --- runs -----------------------------------------------------------------------------------------------------------


@dataclass
class Live:
    """A run that is fed by hand; ``history`` is what a store would hold."""

    run: Run
    history: list[Event]

    def feed(self, *inputs: Input) -> list[str]:
        return [say(command) for command in self.advance(*inputs).commands]

    def advance(self, *inputs: Input) -> Outcome:
        outcome = self.run.advance(inputs)
        self.history += outcome.events
        return outcome


def begin(workflow: Any, *args: Any, signals: Any = (), run_id: str | None = None, **kwargs: Any) -> Live:
    """A run that was just made."""
    return resume(workflow, [started(workflow, *args, signals=signals, **kwargs)], run_id)


def resume(
    workflow: Any, history: Sequence[Event], run_id: str | None = None, *, begun: bool = False
) -> Live:
    """A run loaded from its history; ``begun``: although it is one event long, it was worked on."""
    identity = IDENTITY if run_id is None else replace(IDENTITY, run_id=run_id)
    made = load(
        workflow.definition,
        identity,
        list(history),
        converter=CONVERTER,
        known=known_exceptions(),
        begun=begun,
    )
    alive.append(made)
    return Live(made, list(history))


def run(workflow: Any, inputs: Sequence[Input] = (), *args: Any, **kwargs: Any) -> list[str]:
    """Everything that the workflow asked for. Also replays every prefix of the history that comes of it."""
    live = begin(workflow, *args, **kwargs)
    said = live.feed()
    for one in inputs:
        said += live.feed(one)
    history = stored(live.history)
    live.run.drop()
    check_every_prefix(workflow, history)
    return said


def history_of(workflow: Any, inputs: Sequence[Input] = (), *args: Any, **kwargs: Any) -> list[Event]:
    """The history that these inputs lead to."""
    live = begin(workflow, *args, **kwargs)
    live.feed()
    for one in inputs:
        live.feed(one)
    live.run.drop()
    return live.history


def check_every_prefix(workflow: Any, history: Sequence[Event]) -> None:
    """From each place where a worker could take the run over, it must go on as it did."""
    parts = list(turns(history))
    for count in range(len(parts) + 1):
        known = list(history[: parts[count].number - 1]) if count < len(parts) else list(history)
        rest = [turn.input for turn in parts[count:]]
        if not known:
            known, rest = [history[0]], rest[1:]
        begun = count == 1 and len(known) == 1
        taken_over = resume(workflow, known, begun=begun)
        for one in rest:
            taken_over.advance(one)
        if not rest and len(known) == 1 and not begun:
            taken_over.advance()
        taken_over.run.drop()
        assert taken_over.history == list(history), f"taken over after {len(known)} events"


def stored(history: Sequence[Event]) -> list[Event]:
    """As it comes back from a store."""
    return [decode_event(encode_event(event)) for event in history]


# --- words ----------------------------------------------------------------------------------------------------------


def say(command: Command) -> str:
    match command:
        case commands.ScheduleActivity(number=number, name=name, args=args):
            return f"activity {number} {name}{'' if args == '[]' else ' ' + args}"
        case commands.CancelActivity(number=number):
            return f"cancel activity {number}"
        case commands.StartTimer(number=number, due_us=due_us, name=name):
            return f"timer {number} +{(due_us - START_US) / SECOND}{'' if name is None else ' ' + name}"
        case commands.CancelTimer(number=number):
            return f"cancel timer {number}"
        case commands.StartChild(number=number, workflow=name, args=args, close=close):
            return f"child {number} {name} {args} {close}"
        case commands.SendSignal(number=number, instance_id=to, name=name, payload=payload):
            return f"signal {number} {to} {name} {payload}"
        case commands.SendCancel(number=number, instance_id=to):
            return f"send cancel {number} {to}"
        case commands.RecordSideEffect(number=number, value=value):
            return f"side effect {number} {value}"
        case commands.CompleteRun(result=result):
            return f"completed {result}"
        case commands.FailRun(failure=text):
            failure = Failure.from_text(text)
            return f"failed {failure.type.rpartition('.')[2]}: {failure.message}"
        case commands.CancelRun(reason=reason):
            return f"cancelled {reason or ''}".strip()
        case commands.ContinueRun(args=args, signals=signals):
            return f"continued {args}{f' {list(signals)}' if signals else ''}"
        case _:
            return repr(command)


__all__ = [
    "CONVERTER", "IDENTITY", "SECOND", "START_US", "Live", "alive", "at", "begin", "cancel", "check_every_prefix",
    "done", "failed", "fired", "history_of", "replace", "resume", "run", "say", "signal", "started", "stored",
]  # fmt: skip
