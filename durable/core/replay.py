"""Replay: feed events to a run, let it go on until it is blocked, match what it asked for with what history says.

A `Run` is a workflow function on its own loop. `Run.replay` brings it to where its history ends and changes nothing;
`Run.advance` goes on from there with new inputs and gives an `Outcome`. Pure: no I/O, no clock, no store.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from durable.core import commands, events
from durable.core.commands import Command, EndOfRun, decision_of, is_remembered_by, shape
from durable.core.context import ContinueAsNew, MissingSideEffect, RunContext, RunIdentity, Site, Step
from durable.core.definition import WorkflowDefinition
from durable.core.divergence import Difference, as_stored, contents, diverged
from durable.core.events import OUTSIDE_ENDINGS, Decision, Event, Input, RunStarted, weight
from durable.core.failure import failure_of
from durable.core.history import turns
from durable.core.hooks import NO_PROPAGATION, Propagation
from durable.core.ids import derived_run_id
from durable.core.loop import WorkflowLoop, mark_recorded
from durable.core.messages import reason_of
from durable.core.outcome import Outcome, Part, put_before
from durable.core.patches import names_in, patches_of
from durable.core.payload import Converter
from durable.core.step_bytes import (
    MAX_LAST_STEP_BYTES,
    MAX_STEP_BYTES,
    exact_bytes,
    input_bytes,
    most_bytes,
    room_beside,
)
from durable.core.updates import Updates
from durable.core.watchdog import Watchdog
from durable.errors import (
    InstanceAlreadyExists,
    InstanceFinished,
    InstanceNotFound,
    NonDeterminismError,
    PayloadError,
    PayloadTooLarge,
    QueryFailed,
    WorkflowCancelled,
    WorkflowTerminated,
)

__all__ = ["Outcome", "Run", "load", "put_before"]


_NONE: list[Difference] = []
"""Of a run that does not compare: nothing is ever added."""


class Run:
    """One life of an instance, in memory. ``known`` are the exception classes that stored failures may come out as.

    ``trace=True`` remembers where each command was issued (slow; for reports). ``compare=True`` also gathers the
    `differences`: commands that are asked for with other arguments than history holds.
    """

    __slots__ = (
        "__dict__",
        "_begins_with",
        "_compare",
        "_main",
        "_open_ended",
        "_read",
        "context",
        "definition",
        "differences",
        "ended",
        "identity",
        "number",
    )

    # What most runs never have lies in the class.
    _begun_with: frozenset[str] = frozenset()
    _owed: tuple[Sequence[Command], int] = ((), 0)
    """Commands of the last event of the history that do not stand behind it, and its time."""
    _held: tuple[Callable[[], None], ...] = ()
    _held_bytes = 0
    _updates: Updates | None = None
    _ending: EndOfRun | None = None

    def __init__(
        self,
        definition: WorkflowDefinition,
        identity: RunIdentity,
        started: RunStarted,
        *,
        converter: Converter,
        known: Mapping[str, type[BaseException]],
        propagation: Propagation = NO_PROPAGATION,
        watchdog: Watchdog | None = None,
        trace: bool = False,
        compare: bool = False,
    ) -> None:
        self.differences = [] if compare else _NONE
        self._compare = compare
        self._read = converter.unseal if compare else as_stored
        self.definition = definition
        self.identity = identity
        self.context = RunContext(identity, definition, converter, known, started, propagation, watchdog)
        self.number = 0
        self.ended = False
        self._begins_with: Input | None = None
        self._open_ended = False
        self._main: asyncio.Task[Any] | None = None
        if trace:
            self.context.sites = {}

    @property
    def loop(self) -> WorkflowLoop:
        return self.context.loop

    # --- the two ways forward -------------------------------------------------------------------------------------

    def replay(
        self, history: Sequence[Event], *, begun: bool | None = None, open_ended: bool = False
    ) -> None:
        """Go through the events that history holds already.

        Raises `NonDeterminismError` where the code asks for something else, ``ValueError`` for a broken history,
        `PayloadError` when the arguments cannot be decoded.

        A run that was made, but never worked on (``begun`` is false), ends with an input that nobody has applied yet:
        what it leads to belongs to the first `advance`. That is its start, or, in a fork, what it begins again with.
        Where nobody knows (``None``), a history of one event is taken for one of those.

        ``open_ended``: activities that it asks for after the last event need not stand in history; they belong to the
        first `advance` too.
        """
        self._open_ended = open_ended
        last = history[-1]
        if isinstance(last, Input) and (begun is False or (begun is None and len(history) == 1)):
            if len(history) > 1:
                self.replay(history[:-1], begun=True)
            self._begins_with = last
            self.number = self.context.history_length = len(history)
            return

        def all_turns() -> None:
            for _ in self.retrace(history):
                pass

        self.loop.together(all_turns)

    def retrace(self, history: Sequence[Event], *, open_ended: bool | None = None) -> Iterator[int]:
        """`replay` of a run that has begun, a turn at a time: gives the number of the last event after each."""
        if open_ended is not None:
            self._open_ended = open_ended
        context = self.context
        context.replaying = True
        try:
            for number, event, decisions in turns(history):
                context.answers = decisions
                recorded = [one for one in decisions if type(one) is events.SideEffectRecorded]
                context.recorded = deque(recorded) if recorded else None
                if number == 1 and decisions and isinstance(decisions[0], events.PatchesRecorded):
                    self._begun_with = frozenset(decisions[0].names)
                context.history_length = number
                asked = self._replayed(number, event, decisions)
                if number + len(decisions) >= len(history) - 1:
                    asked = self._own(asked, number, event, len(decisions), history)
                for decision in decisions:
                    context.history_bytes += weight(decision)
                if len(history) > 2 or not isinstance(history[-1], OUTSIDE_ENDINGS):
                    # Else it was ended from outside, maybe before anybody had begun it.
                    self._match(number, asked, event.time_us, decisions)
                self.number = number + len(decisions)
                yield self.number
        finally:
            self.context.replaying = False
            self.context.recorded = None
            self.context.answers = ()
        self.number = self.context.history_length = len(history)

    def advance(self, inputs: Sequence[Input]) -> Outcome:
        """Apply new inputs, one at a time, until they are used up or the run has ended.

        Inputs that nobody waits for any more (a timer or activity that was cancelled) leave no event. What is more than
        a checkpoint can hold is cut between steps: see `Outcome.further`.
        """
        if len(inputs) > 1:
            return self.loop.together(partial(self._advance, inputs))
        return self._advance(inputs)

    def _advance(self, inputs: Sequence[Input]) -> Outcome:
        begins_with, self._begins_with = self._begins_with, None
        parts: list[Part] = []
        if self._owed[0]:
            parts.append(self._own_up())
        if begins_with is not None:
            _join(parts, self._turn(begins_with, []))
        for event in inputs:
            if self.ended:
                _last(parts).left += (event,)
            elif self._awaited(event):
                ordered = self._in_order(event)
                _join(parts, self._turn(ordered, [ordered]))
            _last(parts).inputs += 1
        timers = self.context.timers
        last = _last(parts).outcome(min(timers.values()) if timers else None)
        if len(parts) == 1:
            return last
        # A part that is not the last goes on at once: whoever takes the run over then need not wait for anything.
        first, *further = [part.outcome(self.loop.now_us) for part in parts[:-1]]
        return replace(first, further=(*further, last))

    @property
    def owed(self) -> list[Event]:
        """What it has asked for that its history does not hold yet."""
        asked, at_us = self._owed
        return [decision_of(command, at_us) for command in asked]

    def _own_up(self) -> Part:
        """What history does not hold yet of the answer to its last event comes first."""
        (owed, at_us), self._owed = self._owed, ((), 0)
        decisions: list[Event] = [decision_of(command, at_us) for command in owed]
        self.context.history_bytes += sum(map(weight, decisions))
        self.number += len(decisions)
        return Part(decisions, list(owed), Step(commands={}), sum(map(most_bytes, owed)), None, None)

    def _turn(self, event: Input, appended: list[Event]) -> Part:
        """Apply one input. ``appended`` is what is to be written: the input, unless the store has it already."""
        context = self.context
        fired_until = self.loop.timers[event.number].due_us if type(event) is events.TimerFired else None
        context.history_length = self.number + len(appended)
        taken = self._weighed(event)
        asked, step = self._apply(event, taken)
        for command in asked:
            decision = decision_of(command, event.time_us)
            context.history_bytes += weight(decision)
            appended.append(decision)
        self.number += len(appended)
        end = self._ending if self.ended else None
        return Part(appended, asked, step, taken + step.bytes, end, fired_until)

    def _weighed(self, event: Input) -> int:
        """Count an input as a part of the history; gives what it takes in a checkpoint."""
        about = weight(event)
        self.context.history_bytes += about
        return input_bytes(event, about)

    def due_timers(self, now_us: int) -> list[Input]:
        """An input for each timer that is due, in order of due time."""
        if not self.loop.timers:
            return []
        due = sorted((at, number) for number, at in self.context.timers.items() if at <= now_us)
        return [events.TimerFired(time_us=at, number=number) for at, number in due]

    def query(self, name: str, args: str) -> str | None:
        """The answer of a query, as a payload; ``None`` if the function may still come to be defined.

        Raises `QueryFailed` for an unknown name and for arguments that do not fit, and what the function raises.
        """
        handler = self.context.queries.get(name)
        if handler is None:
            if not self.ended and name in names_in(self.definition.fn):
                return None
            known = ", ".join(sorted(self.context.queries)) or "none"
            raise QueryFailed(f"workflow {self.definition.name!r} has no query {name!r}; known are: {known}")
        try:
            positional, named = self.context.converter.decode_args(args, handler.signature, f"query {name!r}")
        except PayloadError as error:
            raise QueryFailed(str(error)) from error
        with self.context.read_only("a query"):
            value = self.loop.look(lambda: handler.fn(*positional, **named))
        return self.context.converter.encode(value, handler.signature.result, f"result of query {name!r}")

    def drop(self) -> None:
        """Forget the run: its coroutines are closed, and can neither write nor log anything."""
        self.loop.drop()

    def _own(
        self, asked: list[Command], number: int, event: Input, recorded: int, history: Sequence[Event]
    ) -> list[Command]:
        """What stands in history of what the last event led to. The rest, if it is activities alone, is owed."""
        outside = isinstance(history[-1], OUTSIDE_ENDINGS)  # it may have come behind any checkpoint
        rest = asked[recorded:]
        if number + recorded + outside < len(history) or not (self._open_ended or outside):
            return asked
        if not all(isinstance(command, commands.ScheduleActivity) for command in rest):
            return asked
        self._owed = (rest, event.time_us)
        return asked[:recorded]

    def _replayed(self, number: int, event: Input, recorded: Sequence[Decision]) -> list[Command]:
        try:
            return self._apply(event, self._weighed(event))[0]
        except MissingSideEffect as missing:
            asked = [*self.context.take_step().commands.values()]
            asked.append(commands.RecordSideEffect(number=missing.number, value=""))
            self._match(number, asked, event.time_us, recorded)
            raise

    # --- one turn -------------------------------------------------------------------------------------------------

    def _apply(self, event: Input, taken: int) -> tuple[list[Command], Step]:
        """Let the run take an input in, which takes so many bytes; gives what it asks for in answer."""
        loop, context = self.loop, self.context
        loop.now_us = max(loop.now_us, event.time_us)
        effect = self._effect_of(event)
        if self._held or type(event) is events.SignalReceived:
            self._held += (effect,)
            self._held_bytes += taken
            if isinstance(event, events.SignalReceived) and event.held:
                return [], Step(commands={})
            effects, self._held = self._held, ()
            effect, taken, self._held_bytes = partial(_all, effects), self._held_bytes, 0
        context.begin_step(room_beside(taken))
        loop.step(effect)
        step = context.take_step()
        asked = list(step.commands.values())
        if self._main is not None and self._main.done() and not self.ended:
            self.ended = True
            self._ending = self._fitting(self._end(self._main), step)
            asked.append(self._ending)
        return asked, step

    def _in_order(self, event: Input) -> Input:
        """Time never goes back: a message that arrived before a timer fired may be seen after it."""
        if event.time_us >= self.loop.now_us:
            return event
        return _replace_time(event, self.loop.now_us)

    def _awaited(self, event: Input) -> bool:
        match event:
            case events.ActivityCompleted(number=number):
                return number in self.context.pending
            case events.TimerFired(number=number):
                return number in self.loop.timers
            case events.ActivityFailed(number=number) | events.ChildClosed(number=number):
                return number in self.context.pending
            case events.ChildStarted(number=number) | events.ChildRefused(number=number):
                return -number in self.context.pending or number in self.context.pending
            case events.SendResolved(number=number):
                return number in self.context.pending
            case _:
                return True

    def _effect_of(self, event: Input) -> Callable[[], None]:
        """What an input does, prepared outside of the step: payloads are decoded here, once."""
        context = self.context
        match event:
            case events.ActivityCompleted(number=number, result=result):
                return self._resolve(number, result)
            case RunStarted():
                return self._start(event)
            case events.ActivityFailed(number=number, failure=failure):
                return self._reject(number, self.context.rebuilt(failure))
            case events.TimerFired(number=number):
                return lambda: _ignore(context.loop.fire(number))
            case events.SignalReceived(name=name, payload=payload):
                return lambda: context.inbox(name).put(payload)
            case events.CancelRequested(reason=reason):
                return lambda: self._cancel(reason)
            case events.ChildStarted(number=number):
                return self._resolve(-number, "null")
            case events.ChildRefused(number=number):
                return self._refuse_child(number)
            case events.ChildClosed():
                return self._close_child(event)
            case events.SendResolved(number=number, outcome=outcome):
                return self._sent(number, outcome)
            case events.UpdateRequested(key=key, name=name, args=args):
                return lambda: self._request_update(key, name, args)
            case _:
                raise ValueError(f"{event.kind} is no input that a run can take")

    def _start(self, event: RunStarted) -> Callable[[], None]:
        args, kwargs = self.context.converter.decode_args(
            event.args, self.definition.signature, f"workflow {self.definition.name!r}"
        )
        for name, payload in event.signals:
            self.context.inbox(name).put(payload)

        known = self._begun_with if self.context.replaying else patches_of(self.definition.fn)
        if known:
            self.context.patches = known

        def start() -> None:
            if known:
                # Under the number 0, ahead of everything: the first step's first decision.
                self.context.issue(commands.RecordPatches(names=tuple(sorted(known))), 0)
            for key, update, update_args in event.updates:
                self._request_update(key, update, update_args)
            self._main = self.loop.create_task(self.definition.fn(*args, **kwargs), name=self.definition.name)

        return start

    def _request_update(self, key: str, name: str, args: str) -> None:
        if self._updates is None:
            self._updates = Updates(self.context)
        self._updates.request(key, name, args)

    def _cancel(self, reason: str | None) -> None:
        assert self._main is not None
        self.context.cancel_requested = True
        self.context.cancel_reason = reason
        self._main.cancel(reason)

    def _resolve(self, number: int, payload: str) -> Callable[[], None]:
        pending = self.context.pending.pop(number, None)
        if pending is None:
            return lambda: None
        try:
            value = pending.decode(payload)
        except PayloadError as error:
            failed = error
            return lambda: _set_exception(pending.future, failed)
        return partial(_set_result, pending.future, value)

    def _reject(self, number: int, error: BaseException) -> Callable[[], None]:
        pending = self.context.pending.pop(number, None)
        if pending is None:
            return lambda: None
        mark_recorded(error)
        return lambda: _set_exception(pending.future, error)

    def _sealed(self, error: BaseException) -> str:
        return self.context.converter.seal(failure_of(error).to_text())

    def _refuse_child(self, number: int) -> Callable[[], None]:
        error = InstanceAlreadyExists(
            "the child's id is taken by an unfinished instance: give the child another id"
        )
        started = self._reject(-number, error)
        closed = self._reject(number, error)

        def refuse() -> None:
            started()
            closed()

        return refuse

    def _close_child(self, event: events.ChildClosed) -> Callable[[], None]:
        number = event.number
        match event.state:
            case "completed":
                return self._resolve(number, event.result or "null")
            case "cancelled":
                return self._reject(number, WorkflowCancelled(_reason_of(event, "the child was cancelled")))
            case "terminated":
                return self._reject(number, WorkflowTerminated(_reason_of(event, "the child was terminated")))
            case _:
                return self._reject(number, self.context.rebuilt(event.failure or ""))

    def _sent(self, number: int, outcome: str) -> Callable[[], None]:
        if outcome == "delivered":
            return self._resolve(number, "null")
        error: Exception = InstanceNotFound("no such instance")
        if outcome == "finished":
            error = InstanceFinished("the instance has finished")
        elif outcome == "full":
            error = InstanceFinished("the instance has too many unread messages: try again later")
        return self._reject(number, error)

    # --- the end --------------------------------------------------------------------------------------------------

    def _end(self, main: asyncio.Task[Any]) -> EndOfRun:
        if main.cancelled():
            return self._cancelled()
        error = main.exception()
        if error is None:
            return self._completed(main.result())
        moved_on = _continuation(error)
        if moved_on is not None:
            return self._continued(moved_on)
        return commands.FailRun(failure=self._sealed(error))

    def _completed(self, value: Any) -> EndOfRun:
        what = f"result of workflow {self.definition.name!r}"
        try:
            return commands.CompleteRun(
                result=self.context.converter.encode_result(value, self.definition.signature, what)
            )
        except PayloadError as error:
            return commands.FailRun(failure=self._sealed(error))

    def _fitting(self, end: EndOfRun, step: Step) -> EndOfRun:
        """The end; or, if it takes more than its step has room for, a failure that says so."""
        if not isinstance(end, (commands.CompleteRun, commands.ContinueRun)):
            return end
        room = self.context.room_bytes + MAX_LAST_STEP_BYTES - MAX_STEP_BYTES
        step.bytes += most_bytes(end)
        if step.bytes <= room or any(
            isinstance(event, events.RunCompleted | events.RunContinued) for event in self.context.answers
        ):
            return end
        size = step.exactly() + exact_bytes(end, of_child=self.identity.parent is not None)
        if size <= room:
            step.bytes = size
            return end
        what = "its result" if isinstance(end, commands.CompleteRun) else "the arguments of its next run"
        return commands.FailRun(
            failure=self._sealed(
                PayloadTooLarge(
                    f"{what}, with all else that the last step of instance {self.identity.instance_id!r} asks for, "
                    f"takes {size} bytes, over the limit of {room} bytes: keep large data elsewhere and pass references"
                )
            )
        )

    def _cancelled(self) -> EndOfRun:
        if self.context.cancel_requested:
            return commands.CancelRun(reason=self.context.cancel_reason)
        nobody = asyncio.CancelledError("a CancelledError that nobody asked for left the workflow")
        return commands.FailRun(failure=self._sealed(nobody))

    def _continued(self, call: ContinueAsNew) -> EndOfRun:
        what = f"workflow {self.definition.name!r}"
        try:
            args = self.context.converter.encode_args(
                self.definition.signature, call.call_args, call.call_kwargs, what
            )
        except (PayloadError, TypeError) as error:
            return commands.FailRun(failure=self._sealed(error))
        run_id = derived_run_id(self.identity.run_id, 0)
        return commands.ContinueRun(
            run_id=run_id,
            args=args,
            signals=self.context.unread(),
            updates=tuple((key, name, payload) for key, (name, payload) in self.context.open_updates.items()),
            headers=call.headers,
        )

    # --- matching -------------------------------------------------------------------------------------------------

    def _match(
        self, number: int, asked: Sequence[Command], time_us: int, recorded: Sequence[Decision]
    ) -> None:
        """Compare what the code asked for after event ``number`` with what history holds there."""
        same = len(asked) == len(recorded) and all(map(is_remembered_by, asked, recorded))
        if not same or self._compare:
            self._look_closely(number, [decision_of(command, time_us) for command in asked], recorded)

    def _look_closely(self, number: int, actual: Sequence[Decision], recorded: Sequence[Decision]) -> None:
        """Find what is different, and say so."""
        for offset in range(max(len(actual), len(recorded))):
            theirs = recorded[offset] if offset < len(recorded) else None
            ours = actual[offset] if offset < len(actual) else None
            if theirs is None or ours is None or shape(theirs) != shape(ours):
                raise diverged(
                    instance_id=self.identity.instance_id,
                    workflow=self.definition.name,
                    event=number + 1 + offset,
                    expected=theirs,
                    actual=ours,
                    site=self._site(ours),
                    read=self._read,
                )
            if self._compare and contents(theirs, self._read) != contents(ours, self._read):
                self.differences.append(
                    Difference(event=number + 1 + offset, expected=theirs, actual=ours, site=self._site(ours))
                )

    def _site(self, actual: Decision | None) -> Site:
        number = getattr(actual, "number", None)
        if self.context.sites is not None and number in self.context.sites:
            return self.context.sites[number]
        frames = self._main.get_stack() if self._main is not None else []
        if frames:
            return Site(frames[-1].f_code.co_filename, frames[-1].f_lineno, "main")
        code = self.definition.fn.__code__
        return Site(code.co_filename, code.co_firstlineno, "main")


def load(
    definition: WorkflowDefinition,
    identity: RunIdentity,
    history: Sequence[Event],
    *,
    converter: Converter,
    known: Mapping[str, type[BaseException]],
    propagation: Propagation = NO_PROPAGATION,
    watchdog: Watchdog | None = None,
    begun: bool | None = None,
    open_ended: bool = False,
    compare: bool = False,
) -> Run:
    """A run that has gone through ``history``; ``begun``, ``open_ended`` and what is raised as by `Run.replay`.

    A divergence is met a second time with tracing on, so that its report names file and line without every replay
    paying for it; with ``compare``, which is slow anyway, tracing is on at once.
    """
    for trace in (True,) if compare else (False, True):
        run = Run(
            definition,
            identity,
            _first(history),
            converter=converter,
            known=known,
            propagation=propagation,
            watchdog=watchdog,
            trace=trace,
            compare=compare,
        )
        try:
            run.replay(history, begun=begun, open_ended=open_ended)
        except NonDeterminismError:
            run.drop()
            if trace:
                raise
        except BaseException:
            run.drop()
            raise
        else:
            return run
    raise NonDeterminismError(
        f"instance {identity.instance_id!r} diverged once and then did not: its code is not deterministic"
    )


def _join(parts: list[Part], turn: Part) -> None:
    """Add a turn to the last part, or as a part of its own, if a checkpoint cannot hold both."""
    if parts and not (parts[-1].events and parts[-1].bytes + turn.bytes > MAX_STEP_BYTES):
        parts[-1].join(turn)
    else:
        parts.append(turn)


def _last(parts: list[Part]) -> Part:
    if not parts:
        parts.append(Part([], [], Step(commands={}), 0, None, None))
    return parts[-1]


def _first(history: Sequence[Event]) -> RunStarted:
    if not history or not isinstance(history[0], RunStarted):
        raise ValueError("a history begins with run_started")
    return history[0]


def _continuation(error: BaseException) -> ContinueAsNew | None:
    """The `ContinueAsNew` that left the workflow, also out of a task group."""
    if isinstance(error, ContinueAsNew):
        return error
    if isinstance(error, BaseExceptionGroup):
        found = error.subgroup(ContinueAsNew)
        return None if found is None else _continuation(found.exceptions[0])
    return None


def _reason_of(event: events.ChildClosed, default: str) -> str:
    return reason_of(event.failure) or default


def _replace_time(event: Input, time_us: int) -> Input:
    values = {name: getattr(event, name) for name in type(event).__dataclass_fields__ if name != "kind"}
    return type(event)(**{**values, "time_us": time_us})


def _set_result(future: asyncio.Future[Any], value: Any) -> None:
    if not future.done():
        future.set_result(value)


def _set_exception(future: asyncio.Future[Any], error: BaseException) -> None:
    if not future.done():
        future.set_exception(error)
        future.exception()  # "never retrieved" would be logged whenever the collector comes by


def _all(effects: Sequence[Callable[[], None]]) -> None:
    for effect in effects:
        effect()


def _ignore(_: object) -> None:
    pass
