"""What workflow code sees of its own run: commands to issue, answers to wait for, signals, clock, randomness.

Primitives find it through the running loop (`current_run`). It collects the commands of the step that is running; it
never writes anything and does not know what history holds: that is `durable.core.replay`.
"""

from __future__ import annotations

import asyncio
import random
import sys
from asyncio.events import _get_running_loop
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from sys import intern
from types import FrameType
from typing import Any, NamedTuple

from durable.core import commands
from durable.core.commands import Command, Publish
from durable.core.definition import WorkflowDefinition
from durable.core.events import Event, RunStarted, SideEffectRecorded
from durable.core.failure import Failure, rebuild
from durable.core.hooks import Propagation
from durable.core.light_records import NOTHING, blank, dataclass, filled_tuple
from durable.core.loop import RunDropped, WorkflowLoop
from durable.core.payload import Converter
from durable.core.signature import CallSignature
from durable.core.step_bytes import MAX_STEP_BYTES, Asked, exact_bytes, most_bytes
from durable.core.watchdog import Watchdog
from durable.errors import ForbiddenInWorkflow, PayloadTooLarge

MAX_SIGNALS = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class RunIdentity:
    """Which run this is."""

    instance_id: str
    run_id: str
    first_run_id: str
    parent: tuple[str, str] | None = None
    """Instance id and run id of the parent."""

    def __str__(self) -> str:
        return f"instance {self.instance_id!r}"


class ContinueAsNew(BaseException):
    """Leaves the run, so that the next one can begin. Not an ``Exception``: ``except Exception`` must not stop it."""

    def __init__(self, args: tuple[Any, ...], kwargs: dict[str, Any], headers: Mapping[str, str]) -> None:
        super().__init__("continue as new")
        self.headers = dict(headers)
        self.call_args = args
        self.call_kwargs = kwargs


@dataclass(frozen=True, slots=True, kw_only=True)
class Handler:
    """A query or an update that workflow code offers."""

    fn: Callable[..., Any]
    signature: CallSignature
    validator: Callable[..., Any] | None = None


class MissingSideEffect(BaseException):
    """Replay came to a side effect that history does not hold; `durable.core.replay` makes a report of it."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class Pending(NamedTuple):
    """A command whose answer somebody waits for, and how the answer's payload becomes a value."""

    future: asyncio.Future[Any]
    decode: Callable[[str], Any]


class Site(NamedTuple):
    """Where workflow code issued a command."""

    file: str
    line: int
    task: str


class Inbox:
    """The unread signals of one name, in order, and who waits for them, in order."""

    __slots__ = ("payloads", "waiters")

    def __init__(self) -> None:
        self.payloads: deque[str] = deque()
        self.waiters: deque[asyncio.Future[None]] = deque()

    def put(self, payload: str) -> None:
        self.payloads.append(payload)
        self.wake_next()

    def wake_next(self) -> None:
        while self.waiters:
            waiter = self.waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return

    async def get(self, loop: WorkflowLoop) -> str:
        """The next payload; whoever is cancelled while waiting passes its turn on."""
        while not self.payloads:
            waiter: asyncio.Future[None] = loop.create_future()
            self.waiters.append(waiter)
            try:
                await waiter
            except BaseException:
                if self.payloads and waiter.done() and not waiter.cancelled():
                    self.wake_next()
                raise
        return self.payloads.popleft()


@dataclass(frozen=False, slots=True, kw_only=True)
class Step:
    """What one step asked for. Commands by number; a cancellation stands under the negative of what it cancels."""

    commands: dict[int, Command]
    vars: dict[str, str] | None = None
    status: str | None = None
    published: list[Publish] | None = None
    bytes: int = 0
    """No less than what all this takes in a checkpoint; from the moment on that this would be too much, exactly."""
    weighed: bool = False

    def admit(self, asked: Asked, room_bytes: int) -> int:
        """Count one more thing that is asked for; 0 if it fits, else how much it would be together."""
        self.bytes += exact_bytes(asked) if self.weighed else most_bytes(asked)
        if self.bytes <= room_bytes:
            return 0
        # What was withdrawn or overwritten meanwhile no longer counts.
        self.weighed = True
        before = self.exactly()
        self.bytes = before + exact_bytes(asked)
        if self.bytes <= room_bytes:
            return 0
        too_much, self.bytes = self.bytes, before
        return too_much

    def exactly(self) -> int:
        """What all this takes in a checkpoint."""
        vars_ = () if self.vars is None else self.vars.values()
        return sum(map(exact_bytes, (*self.commands.values(), *vars_, *(self.published or ()))))


_NO_STEP = Step(commands=NOTHING)
"""Between steps: nobody can ask for anything."""


class RunContext:
    """The run as its primitives use it (the host of its loop)."""

    __slots__ = (
        "__dict__",
        "_next_number",
        "_propagation",
        "converter",
        "definition",
        "history_bytes",
        "history_length",
        "identity",
        "known",
        "loop",
        "pending",
        "queue",
        "room_bytes",
        "seed",
        "started_headers",
        "started_us",
        "step",
    )

    # What most runs never have lies in the class; the run has one of its own as soon as there is something to put in.
    replaying = False
    answers: Sequence[Event] = ()
    """While replaying: what history holds as the answer to the input that is being applied."""
    recorded: deque[SideEffectRecorded] | None = None
    """While replaying: those of them that are values of side effects."""
    inboxes: dict[str, Inbox] = NOTHING
    dropped_signals = 0
    conditions: dict[asyncio.Future[None], Callable[[], object]] = NOTHING
    queries: dict[str, Handler] = NOTHING
    updates: dict[str, Handler] = NOTHING
    open_updates: dict[str, tuple[str, str]] = NOTHING
    """Updates without an answer yet: name and arguments by key, in order of arrival."""
    patches: frozenset[str] = frozenset()
    on_update_defined: Callable[[str], None] | None = None
    cancel_reason: str | None = None
    cancel_requested = False
    sites: dict[int, Site] | None = None
    timer_name: str | None = None
    _published = 0
    _read_only: str | None = None
    _random: random.Random | None = None

    def __init__(
        self,
        identity: RunIdentity,
        definition: WorkflowDefinition,
        converter: Converter,
        known: Mapping[str, type[BaseException]],
        started: RunStarted,
        propagation: Propagation,
        watchdog: Watchdog | None,
    ) -> None:
        self.identity = identity
        self.definition = definition
        self.converter = converter
        self.known = known
        self.seed = started.seed or identity.run_id
        self.queue = intern(started.queue)
        self.started_us = started.time_us
        self.started_headers: Mapping[str, str] = started.headers or NOTHING
        self._propagation = propagation
        self.loop = WorkflowLoop(
            run_id=self.seed,
            start_us=started.time_us,
            host=self,
            context=propagation.context(started.headers),
            watchdog=watchdog,
        )
        self.loop.label = identity
        self.history_length = 0
        self.history_bytes = 0
        self.step = _NO_STEP
        self.room_bytes = MAX_STEP_BYTES
        self.pending: dict[int, Pending] = {}
        self._next_number = 1

    # --- commands -----------------------------------------------------------------------------------------------

    def number(self, called: Site | None = None) -> int:
        """The next command's number. Raises `ForbiddenInWorkflow` where no command may be issued.

        ``called`` is the `site` of a call whose coroutine runs later, maybe as a task of its own.
        """
        if self.loop._dropped or self._read_only is not None:
            self.check_open()
        number = self._next_number
        self._next_number = number + 1
        if self.sites is not None and (site := called or _site_of(sys._getframe(1))) is not None:
            # The line is where it was called, the task is who awaits it.
            self.sites[number] = site._replace(task=_task_name())
        return number

    def site(self) -> Site | None:
        """Where workflow code is now; ``None`` unless commands are traced."""
        return None if self.sites is None else _site_of(sys._getframe(1))

    def issue(self, command: Command, number: int, *, anyway: bool = False) -> None:
        """Add a command, made with a `number` of its own, to the step.

        Raises `PayloadTooLarge` if that is full, unless it is to be added ``anyway``.
        """
        step = self.step
        size = step.bytes + most_bytes(command)
        if size <= self.room_bytes and not step.weighed:
            step.bytes = size
        else:
            size = step.admit(command, self.room_bytes)
            # What history holds was accepted once, by code that may have asked for it in other words.
            known = any(getattr(event, "number", None) == number for event in self.answers)
            if size and not anyway and not known:
                raise self._too_much(size)
        step.commands[number] = command

    def _too_much(self, size: int) -> PayloadTooLarge:
        return PayloadTooLarge(
            f"what instance {self.identity.instance_id!r} asks for in one step takes {size} bytes together, over the "
            f"limit of {self.room_bytes} bytes (arguments count twice: they stand in the history and with the task): "
            "wait for some of it before you ask for more, or keep large data elsewhere and pass references"
        )

    def wait_for(self, number: int, decode: Callable[[str], Any]) -> asyncio.Future[Any]:
        """A future for the answer to a command."""
        future: asyncio.Future[Any] = self.loop.create_future()
        self.pending[number] = filled_tuple(Pending, (future, decode))
        return future

    def withdraw(self, number: int, cancellation: Command) -> None:
        """Nobody waits for the answer any more: what was not flushed leaves nothing, the rest is cancelled."""
        if self.pending.pop(number, None) is None:
            return
        if number in self.step.commands:
            del self.step.commands[number]
        else:
            self.check_open()
            self.step.commands[-number] = cancellation

    def begin_step(self, room_bytes: int) -> None:
        """From now on commands are taken, which may take so many bytes together."""
        self.room_bytes = room_bytes
        self.step = step = blank(Step)
        step.commands = {}
        step.vars = step.status = step.published = None
        step.bytes = 0
        step.weighed = False

    def take_step(self) -> Step:
        """What the step that just ended asked for."""
        step, self.step = self.step, _NO_STEP
        return step

    @property
    def timers(self) -> Mapping[int, int]:
        """When the timers that have not fired are due, by the numbers of their commands."""
        timers = self.loop.timers
        return {number: timer.due_us for number, timer in timers.items()} if timers else NOTHING

    # --- what the loop asks of its host ---------------------------------------------------------------------------

    def start_timer(self, due_us: int) -> int:
        number = self.number()
        name, self.timer_name = self.timer_name, None
        self.issue(commands.StartTimer(number=number, due_us=due_us, name=name), number)
        return number

    def cancel_timer(self, number: int) -> None:
        if number in self.step.commands:
            del self.step.commands[number]
        else:
            self.step.commands[-number] = commands.CancelTimer(number=number)

    def issued(self) -> int:
        return self._next_number

    def check_open(self) -> None:
        if self.loop.is_closed():
            raise RunDropped(f"run {self.identity.run_id} was dropped")
        if self._read_only is not None:
            raise ForbiddenInWorkflow(
                f"{self._read_only} may only look: it cannot start, send, wait for or change anything in instance "
                f"{self.identity.instance_id!r}"
            )

    def random(self) -> random.Random:
        """The run's own stream (a throw-away one where only looking is allowed)."""
        if self._read_only is not None:
            return random.Random(f"{self.identity.run_id}/{self._read_only}")
        if self._random is None:
            self._random = random.Random(self.seed)
        return self._random

    @contextmanager
    def read_only(self, what: str) -> Iterator[None]:
        """Code that may look and not touch: conditions, queries, validators."""
        before, self._read_only = self._read_only, what
        shut, self.loop._shut = self.loop._shut, True
        try:
            yield
        finally:
            self._read_only = before
            self.loop._shut = shut

    # --- state of the run that is no command ------------------------------------------------------------------------

    @property
    def headers(self) -> Mapping[str, str]:
        """What travels with what this code asks for: the run's headers, with the chosen variables as they are now."""
        return self._propagation.headers(self.started_headers)

    def inbox(self, name: str) -> Inbox:
        found = self.inboxes.get(name)
        if found is None:
            if self.inboxes is NOTHING:
                self.inboxes = {}
            found = self.inboxes[name] = Inbox()
        return found

    def define_query(self, name: str, handler: Handler) -> None:
        """Offer a query, in place of any that was called so before."""
        self.queries = {**self.queries, name: handler}

    def define_update(self, name: str, handler: Handler) -> None:
        """Offer an update, in place of any that was called so before."""
        self.updates = {**self.updates, name: handler}

    def open_update(self, key: str, name: str, args: str) -> None:
        """Somebody waits for this update's answer."""
        if self.open_updates is NOTHING:
            self.open_updates = {}
        self.open_updates[key] = (name, args)

    def unread(self) -> tuple[tuple[str, str], ...]:
        """Every unread signal, name and payload; in order within a name."""
        return tuple((name, payload) for name, box in self.inboxes.items() for payload in box.payloads)

    def rebuilt(self, failure: str) -> Exception:
        """A stored failure as an exception."""
        return rebuild(Failure.from_text(self.converter.unseal(failure)), self.known)

    def recorded_side_effect(self, number: int) -> SideEffectRecorded | None:
        """What came of a side effect, while replaying; ``None`` when it is to be run now.

        History without one at this place is a divergence: the rest of the step is abandoned, since running the
        function a second time is what a side effect must never do.
        """
        if not self.replaying:
            return None
        if self.recorded and self.recorded[0].number == number:
            return self.recorded.popleft()
        missing = MissingSideEffect(number)
        self.loop.stop_step(missing)
        raise missing

    def publish(self, topic: str, payload: str, key: str | None, headers: Mapping[str, str]) -> None:
        self.check_open()
        self._published += 1
        event = Publish(topic=topic, payload=payload, key=key, headers=dict(headers), number=self._published)
        self._make_room(event)
        if self.step.published is None:
            self.step.published = []
        self.step.published.append(event)

    def set_var(self, name: str, payload: str) -> None:
        self.check_open()
        self._make_room(payload)
        if self.step.vars is None:
            self.step.vars = {}
        self.step.vars[name] = payload

    def _make_room(self, asked: Asked) -> None:
        if size := self.step.admit(asked, self.room_bytes):
            raise self._too_much(size)

    def set_status(self, status: str) -> None:
        self.check_open()
        self.step.status = status

    def wake_when(self, future: asyncio.Future[None], condition: Callable[[], object]) -> None:
        """Look at a condition whenever nothing else is ready, until the future is done."""
        if self.conditions is NOTHING:
            self.conditions = {}
        self.conditions[future] = condition
        self.loop.on_idle = self._conditions_met

    def _conditions_met(self) -> bool:
        """Wake those whose condition holds now, in the order in which they began to wait."""
        woke = False
        for future, condition in list(self.conditions.items()):
            if future.done():
                continue
            try:
                with self.read_only("a condition"):
                    holds = condition()
            except Exception as error:
                future.set_exception(error)
                woke = True
                continue
            if holds:
                future.set_result(None)
                woke = True
        return woke


def current_run(what: str) -> RunContext:
    """The run whose code is running. Raises ``RuntimeError`` outside of a workflow, naming ``what`` was called."""
    run = run_or_none()
    if run is None:
        raise RuntimeError(f"{what} works inside a workflow only")
    return run


def run_or_none() -> RunContext | None:
    """The run whose code is running, if any."""
    loop = _get_running_loop()
    return loop.host if type(loop) is WorkflowLoop else None  # type: ignore[return-value]  # whose host is a run's


_PACKAGE = __name__.split(".", 1)[0] + "."


def _site_of(frame: FrameType | None) -> Site | None:
    """The innermost frame that is neither the engine's nor asyncio's; ``None`` where the step begins without one."""
    while frame is not None:
        module = frame.f_globals.get("__name__", "")
        if module == "durable.core.loop":
            return None  # further out is who drives the run, not the workflow
        if _is_theirs(module):
            return Site(frame.f_code.co_filename, frame.f_lineno, _task_name())
        frame = frame.f_back
    return None


def _task_name() -> str:
    task = asyncio.current_task()
    return "?" if task is None else task.get_name()


def site_of_error(error: BaseException) -> Site | None:
    """Where the user's code was when ``error`` was raised: the innermost frame that is neither ours nor asyncio's."""
    found = None
    trace = error.__traceback__
    while trace is not None:
        if _is_theirs(trace.tb_frame.f_globals.get("__name__", "")):
            found = Site(trace.tb_frame.f_code.co_filename, trace.tb_lineno, "?")
        trace = trace.tb_next
    return found


def _is_theirs(module: str) -> bool:
    return not (module.startswith((_PACKAGE, "asyncio.", "anyio.", "contextlib")) or module == "asyncio")
