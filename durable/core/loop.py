"""The deterministic asyncio loop that a run lives on.

One loop per run. It has a FIFO queue of callbacks and the run's own time, and nothing else: no selector, no thread, no
wall clock. It never runs by itself: whoever drives the run calls `WorkflowLoop.step`, which lets something happen and
goes on until nothing is ready. Timers are durable: the host (the run) is told of each, and fires it.

It is not a general loop: executors, sockets, signals and subprocesses raise `ForbiddenInWorkflow`, because what they
bring into a workflow would not be in its history.

Order is everything here. Whatever changes the order in which callbacks run, among it `REARMS`, is part of the format
of histories.
"""

from __future__ import annotations

import asyncio
import contextvars
import gc
import logging
import math
import sys
import weakref
from asyncio import current_task
from asyncio import tasks as asyncio_tasks
from asyncio.events import _get_running_loop, _set_running_loop
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextvars import copy_context
from functools import partial
from random import Random
from threading import Lock, get_ident
from types import FunctionType, MethodType
from typing import Any, NoReturn, Protocol, TypeAlias, TypeVar

from durable.core import guards
from durable.core.light_records import NOTHING
from durable.core.ordering import HASH_MASK, OrderedLoop, RunFuture, RunTask
from durable.core.watchdog import StepTooLong, Watchdog
from durable.errors import ForbiddenInWorkflow

T = TypeVar("T")

# What a step puts aside, to be restored after it: the running loop, its current task, and the hooks of generators.
_Outside: TypeAlias = "tuple[asyncio.AbstractEventLoop | None, asyncio.Task[Any] | None, Any]"

REARMS = 64
"""So many times a callback may schedule itself again while the run makes no progress. Part of the replay format."""

_NEVER_US = 1 << 62
_REFUSALS = 1_000
_CLOSINGS = 8

# They say that the process or the thread is in trouble, not the workflow: the run is dropped, and nothing is written.
_FATAL = (KeyboardInterrupt, SystemExit, MemoryError, RecursionError, StepTooLong)
# Of these a task keeps what it should not; asyncio's tasks let the first two of `_FATAL` through by themselves.
_KEPT_BY_TASKS = (MemoryError, RecursionError, StepTooLong)

_log = logging.getLogger("asyncio")


class RunDropped(BaseException):
    """The run is gone from this worker; what is left of its code may not do anything any more."""


class LoopHost(Protocol):
    """What the loop asks of its run."""

    def start_timer(self, due_us: int) -> int:
        """A durable timer was made, due at this time (microseconds since the epoch); gives its command number."""

    def cancel_timer(self, number: int) -> None:
        """A durable timer was cancelled before it fired."""

    def issued(self) -> int:
        """How many commands the run has issued so far."""

    def check_open(self) -> None:
        """Raises when commands are forbidden now: a query is being answered, or the run is dropped."""

    def random(self) -> Random:
        """The run's own random stream."""


class _Gone:
    """The host of a loop that was dropped."""

    def start_timer(self, due_us: int) -> NoReturn:
        self.check_open()

    def cancel_timer(self, number: int) -> None:
        pass

    def issued(self) -> int:
        return 0

    def check_open(self) -> NoReturn:
        raise RunDropped("the run was dropped")

    def random(self) -> NoReturn:
        self.check_open()


_GONE = _Gone()


class Timer(asyncio.TimerHandle):
    """A timer, with the number of its command (0 when it has none) and the time that it is durably due at."""

    __slots__ = ("due_us", "number")

    due_us: int
    number: int


# The garbage collector is off while any thread is in a step: it would run finalizers of other runs, and thereby their
# code, in the middle of this one.
_collector_lock = Lock()
_steps_running = 0
_collector_was_on = False


def _pause_collector() -> None:
    global _steps_running, _collector_was_on  # noqa: PLW0603 - the collector is the process's, too
    with _collector_lock:
        _steps_running += 1
        if _steps_running == 1:
            _collector_was_on = gc.isenabled()
            gc.disable()


def _resume_collector() -> None:
    global _steps_running  # noqa: PLW0603
    with _collector_lock:
        _steps_running -= 1
        if _steps_running == 0 and _collector_was_on:
            gc.enable()


_unclosable: list[object] = []
"""Coroutines that swallowed every attempt to close them. Letting go of them would resume their code, anywhere."""


def current_workflow_loop() -> WorkflowLoop | None:
    """The loop of the run whose code is running in this thread, if any."""
    loop = _get_running_loop()
    return loop if isinstance(loop, WorkflowLoop) else None


def _task_done(task: asyncio.Task[Any]) -> None:
    """A mark: every task has it as its first done callback, and `call_soon` acts on it at once, without a handle."""


def _forbidden(what: str, instead: str) -> Any:
    def method(self: object, *args: object, **kwargs: object) -> NoReturn:
        raise ForbiddenInWorkflow(f"{what} is not available in a workflow: {instead}")

    method.__name__ = method.__qualname__ = what
    method.__doc__ = f"Not in a workflow: {instead}."
    return method


_TO_ACTIVITY = "move this work into an activity"
_DRIVEN = "its loop is driven by the worker; await what you need"
_ONE_THREAD = "nothing outside may reach into a run; send it a signal"


class WorkflowLoop(OrderedLoop):
    """The loop of one run.

    ``run_id`` names the run in reports, and its hashes are made of it. ``start_us`` is when the run began
    (microseconds since the epoch), ``context`` what its code finds in context variables (nothing by default).
    """

    # A worker keeps a loop for each run that sleeps: no dictionary of attributes, and nothing is made before its use.
    __slots__ = (
        "_completed",
        "_context",
        "_created",
        "_dropped",
        "_ready",
        "_rearming",
        "_shut",
        "_stepping",
        "host",
        "label",
        "now_us",
        "run_id",
        "start_us",
        "timers",
        "watchdog",
    )

    # What most runs never have lies in the class; the run has one of its own as soon as there is something to put in.
    on_idle: Callable[[], bool] | None = None
    """Called when nothing is ready; True when that made something ready."""
    _reached_time = 0.0
    _generators: dict[int, weakref.ref[AsyncGenerator[Any, Any]]] = NOTHING
    _orphans: tuple[AsyncGenerator[Any, Any], ...] = ()
    _exception_handler: Callable[[asyncio.AbstractEventLoop, dict[str, Any]], object] | None = None
    _rearms: dict[Callable[..., object], tuple[int, int]] = NOTHING
    _aside: tuple[asyncio.Handle, ...] = ()
    _aside_since = -1
    _last_round = False
    _refusals = 0
    _stop: BaseException | None = None
    _outside: _Outside | None = None
    """Of steps that are made `together`."""

    def __init__(
        self,
        *,
        run_id: str,
        start_us: int,
        host: LoopHost,
        context: contextvars.Context | None = None,
        watchdog: Watchdog | None = None,
    ) -> None:
        super().__init__(run_id)
        guards.install()
        self.run_id = run_id
        self.label: object = run_id
        """What the watchdog calls the run: its text is asked for when there is something to say."""
        self.start_us = start_us
        self.now_us = start_us
        self.host = host
        self.watchdog = watchdog
        self._context = contextvars.Context() if context is None else context
        self._ready: list[asyncio.Handle] = []
        self.timers: dict[int, Timer] = NOTHING
        """Those that have not fired, by the numbers of their commands."""
        self._rearming: Callable[..., object] | None = None
        self._created = self._completed = 0
        self._stepping = self._shut = self._dropped = False

    def __repr__(self) -> str:
        state = "dropped" if self._dropped else "stepping" if self._stepping else "parked"
        return f"<WorkflowLoop run={self.run_id} {state} tasks={len(self.tasks)} ready={len(self._ready)}>"

    # --- driving --------------------------------------------------------------------------------------------------

    def step(self, apply: Callable[[], None]) -> None:
        """One uninterrupted stretch: call ``apply``, then go on until nothing is ready.

        Raises `RunDropped` after `drop`, what `stop_step` was given, what ``apply`` and the host raise,
        `StepTooLong`, and the errors that are the process's: ``KeyboardInterrupt``, ``SystemExit``, ``MemoryError``,
        ``RecursionError``, also when they ended a task. After any of them the run is good for nothing but `drop`.
        """
        if self._dropped:
            raise RunDropped(f"run {self.run_id} was dropped")
        if self._outside is not None:
            if self.watchdog is not None:
                self.watchdog.another_step()
            self._begin()
            try:
                self._go(apply)
            finally:
                self._end(self._outside)
            return
        outside = self._enter()
        try:
            if self.watchdog is None:
                self._go(apply)
            else:
                self.watchdog.run(self.label, self._go, apply)
        finally:
            self._leave(outside)

    def together(self, work: Callable[[], T]) -> T:
        """Call ``work``, which makes many steps, and give its result.

        What stands around a step is set up once for all of them. Between them the host's loop is the running one, and
        no guard is up; the collector stays off, and the watchdog looks at each by itself.
        """
        if self._dropped:
            raise RunDropped(f"run {self.run_id} was dropped")
        outside = self._outside = self._arrange()
        try:
            return work() if self.watchdog is None else self.watchdog.run(self.label, work)
        finally:
            self._outside = None
            self._restore(outside)

    def look(self, function: Callable[[], T]) -> T:
        """Call ``function`` as the run's code that may look and not touch (queries, validators); gives its result.

        Nothing can be scheduled meanwhile, and what is ready does not run.
        """
        if self._dropped:
            raise RunDropped(f"run {self.run_id} was dropped")
        outside = self._enter()
        self._shut = True
        try:
            if self.watchdog is None:
                return self._context.run(function)
            return self.watchdog.run(self.label, self._context.run, function)
        finally:
            self._shut = self._dropped
            self._leave(outside)

    def stop_step(self, error: BaseException) -> None:
        """Abandon the step that is running: no callback runs after the present one, and `step` raises ``error``."""
        if self._stop is None:
            self._stop = error

    def fire(self, number: int) -> bool:
        """The timer with this command number is due: its callback joins the queue. False when there is none."""
        timer = self.timers.pop(number, None) if self.timers else None
        if timer is None:
            return False
        self._reached(timer.when())
        self._ready.append(timer)
        return True

    def drop(self) -> None:
        """Close what is left of the run, newest task first, with every command disabled. May be repeated.

        ``finally`` blocks run, but whatever they try raises. What they raise in turn is swallowed, but for
        ``KeyboardInterrupt`` and ``SystemExit``, which are raised when all is closed.
        """
        if self._dropped:
            return
        nothing_left = not (self.tasks or self._orphans or self._generators)
        if nothing_left and current_workflow_loop() is None:  # else it is refused, below
            self._dropped = self._shut = True
            self._forget()
            return
        outside = self._enter()
        self._dropped = self._shut = True
        interrupted: list[BaseException] = []
        try:
            for task in reversed(list(self.tasks.values())):
                self._close_task(task, interrupted)
            self.tasks.clear()
            for generator in [*self._orphans, *self._living_generators()]:
                self._close(generator, partial(_close_generator, generator), interrupted)
        finally:
            self._forget()
            self._leave(outside)
        if interrupted:
            raise interrupted[0]

    def _forget(self) -> None:
        self._ready = []
        self._aside = self._orphans = ()
        self._rearms = NOTHING
        self.timers = NOTHING
        self.host = _GONE  # host and loop would keep each other until the collector comes by

    # --- a step, inside -------------------------------------------------------------------------------------------

    def _enter(self) -> _Outside:
        outside = self._arrange()
        self._begin()
        return outside

    def _leave(self, outside: _Outside) -> None:
        self._end(outside)
        self._restore(outside)

    def _begin(self) -> None:
        _set_running_loop(self)
        if guards.enabled:
            guards.running[get_ident()] = self
        self._stepping = True

    def _end(self, outside: _Outside) -> None:
        self._stepping = False
        guards.running.pop(get_ident(), None)
        _set_running_loop(outside[0])

    def _arrange(self) -> _Outside:
        former = _get_running_loop()
        if isinstance(former, WorkflowLoop):
            raise RuntimeError(
                f"run {self.run_id} cannot be driven from inside of a step of run {former.run_id}"
            )
        # First and last: a collection in between would see this run's loop as the running one.
        _pause_collector()
        task = current_task(former) if former is not None else None
        outside = former, task, sys.get_asyncgen_hooks()
        if former is not None and task is not None:
            # CPython 3.14 has one current task per thread, so the host's must be off while ours run.
            asyncio_tasks._leave_task(former, task)
        sys.set_asyncgen_hooks(self._generator_begins, self._generator_dies)
        return outside

    def _restore(self, outside: _Outside) -> None:
        former, task, hooks = outside
        sys.set_asyncgen_hooks(*hooks)
        if former is not None and task is not None:
            asyncio_tasks._enter_task(former, task)
        _resume_collector()

    def _go(self, apply: Callable[[], None]) -> None:
        if self._rearms:
            self._calm_down()
        if self._stop is not None:
            self._stop = None
        self._context.run(apply)
        self._drain()
        while self.on_idle is not None and self._context.run(self.on_idle):
            self._last_round = False
            self._drain()

    def _calm_down(self) -> None:
        """What was set aside in the step before comes back; nothing has been scheduled too often yet."""
        self._rearms = NOTHING
        self._last_round = False
        self._bring_back()

    def _drain(self) -> None:
        """Run what is ready, in passes: a pass is what was ready at its beginning."""
        while self._ready or (self._aside and self._second_chance()):
            handles, self._ready = self._ready, []
            for handle in handles:
                if handle._cancelled:
                    continue
                self._rearming = callback = handle._callback  # type: ignore[attr-defined]
                try:
                    handle._context.run(callback, *handle._args)  # type: ignore[attr-defined]
                except BaseException as error:
                    self._failed(handle, error)
                if self._stop is not None:
                    raise self._stop
            if self._aside and self._progress() != self._aside_since:
                self._rearms = NOTHING
                self._last_round = False
                self._bring_back()
        self._rearming = None
        if self._stop is not None:
            raise self._stop

    def _failed(self, handle: asyncio.Handle, error: BaseException) -> None:
        if isinstance(error, _FATAL):
            raise error
        message = f"Exception in callback {handle._callback!r}"  # type: ignore[attr-defined]
        self.call_exception_handler({"message": message, "exception": error, "handle": handle})

    # --- the livelock rule ----------------------------------------------------------------------------------------
    #
    # anyio delivers a cancellation again and again, once in every pass, until the task takes it. When the task cannot
    # (it waits for an activity in a `finally`) that never ends: in asyncio the clock goes on meanwhile, here it
    # stands still until the step is over. So a callback that schedules itself for the 64th time, without any command,
    # new task or finished task between, is set aside. It comes back with the next progress or the next step; and once
    # more when nothing else is ready, because a task that yielded all the while may be ready to take it by then.

    def _progress(self) -> int:
        return self.host.issued() + self._created + self._completed

    def _rearmed_too_often(self, callback: Callable[..., object]) -> bool:
        if not isinstance(callback, (MethodType, FunctionType)):
            return False  # a task's own step is a built-in, and tasks may yield as often as they like
        progress = self._progress()
        count, since = self._rearms.get(callback, (0, progress))
        count = count + 1 if since == progress else 1
        if self._rearms is NOTHING:
            self._rearms = {}
        self._rearms[callback] = (count, progress)
        return count >= REARMS

    def _set_aside(self, handle: asyncio.Handle) -> None:
        self._aside_since = self._progress()
        self._aside += (handle,)

    def _bring_back(self) -> None:
        self._ready.extend(self._aside)
        self._aside = ()

    def _second_chance(self) -> bool:
        if self._last_round:
            return False
        self._last_round = True
        self._bring_back()
        return True

    # --- callbacks ------------------------------------------------------------------------------------------------

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.Handle:
        """Run ``callback`` after everything that is ready now."""
        if callback is _task_done:
            return self._finish_task(args[0])
        # What asyncio's own constructor does, without its look at the debug mode, which this loop does not have.
        handle: Any = _new_handle(asyncio.Handle)
        handle._context = copy_context() if context is None else context
        handle._loop = self
        handle._callback = callback
        handle._args = args
        handle._cancelled = False
        handle._repr = handle._source_traceback = None
        if self._shut:
            self._refuse()
        elif callback == self._rearming and self._rearmed_too_often(callback):
            self._set_aside(handle)
        else:
            self._ready.append(handle)
        return handle  # type: ignore[no-any-return]

    def call_later(  # type: ignore[override]
        self,
        delay: float,
        callback: Callable[..., object],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        """Run ``callback`` after ``delay`` seconds: a durable timer. Not positive: like `call_soon`, and no timer."""
        return self._call_after(delay * 1e6, self.time() + delay, callback, args, context)

    def call_at(  # type: ignore[override]
        self,
        when: float,
        callback: Callable[..., object],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        """Run ``callback`` when `time` is ``when``: a durable timer. Not in the future: like `call_soon`."""
        return self._call_after(when * 1e6 - (self.now_us - self.start_us), when, callback, args, context)

    def _call_after(
        self,
        delay_us: float,
        when: float,
        callback: Callable[..., object],
        args: tuple[Any, ...],
        context: contextvars.Context | None,
    ) -> Timer:
        if math.isnan(delay_us):
            raise ValueError("the time of a timer is not a number")
        timer = Timer(when, callback, args, self, context)
        timer.number = 0
        delay = _rounded_up(delay_us, when * 1e6)
        if self._shut:
            self._refuse()
        elif delay <= 0:
            self._reached(when)
            self._ready.append(timer)
        elif self.now_us + delay <= _NEVER_US:
            timer.due_us = due_us = self.now_us + int(delay)
            timer.number = number = self.host.start_timer(due_us)
            if self.timers is NOTHING:
                self.timers = {}
            self.timers[number] = timer
        return timer

    def _timer_handle_cancelled(self, timer: Timer) -> None:
        """Called by asyncio when a timer is cancelled, also when it has fired already."""
        if self.timers and self.timers.pop(timer.number, None) is not None and not self._dropped:
            self.host.cancel_timer(timer.number)

    def time(self) -> float:
        """Seconds since the run began, by the time of the last event."""
        return max((self.now_us - self.start_us) / 1_000_000, self._reached_time)

    def _reached(self, when: float) -> None:
        """A timer for ``when`` is due: `time` is not a float's error below it from now on.

        Who asks `time` when the timer fires, finds it too early and sets it anew (anyio does) would spin for ever.
        """
        if self._reached_time < when < (self.now_us - self.start_us + 1) / 1_000_000:
            self._reached_time = when

    def random(self) -> Random:
        """The run's own random stream."""
        return self.host.random()

    # --- tasks and futures ----------------------------------------------------------------------------------------

    def create_future(self) -> asyncio.Future[Any]:
        """A future whose hash is the run's own."""
        if self._shut:
            self._refuse()
        future = RunFuture(loop=self)
        self._last_hash = future.order = (self._last_hash + 1) & HASH_MASK
        return future

    def create_task(  # type: ignore[override]
        self,
        coro: Coroutine[Any, Any, T],
        *,
        name: object = None,
        context: contextvars.Context | None = None,
        eager_start: bool | None = None,
    ) -> asyncio.Task[T]:
        """A task of the run; its default name counts the tasks of this run."""
        if eager_start:
            coro.close()
            raise ForbiddenInWorkflow("eager tasks are not available in a workflow: leave out `eager_start`")
        if self._shut:
            coro.close()  # or it is reported as never awaited, which is not its author's fault
            self._refuse()
        task = RunTask.__new__(RunTask)
        self._last_hash = task.order = order = (self._last_hash + 1) & HASH_MASK
        task.home = home = copy_context() if context is None else context
        self._created = created = self._created + 1
        RunTask.__init__(
            task, coro, loop=self, name=f"Task-{created}" if name is None else str(name), context=home
        )
        task.add_done_callback(_task_done, context=home)
        self.tasks[order] = task
        # Nobody looks for it in asyncio's set of all tasks of the process (`ordering.all_tasks`), where each of those
        # that sleep would take 150 bytes.
        asyncio_tasks._unregister_task(task)
        return task

    def _finish_task(self, task: RunTask) -> asyncio.Handle:
        self._completed += 1
        self.tasks.pop(task.order, None)
        # `_exception` and not `exception()`: looking must not count as retrieving it.
        error = task._exception
        if isinstance(error, _KEPT_BY_TASKS) and not is_recorded(error):
            self.stop_step(error)
        return _DONE

    # --- refusing -------------------------------------------------------------------------------------------------

    def _refuse(self) -> None:
        """Nothing may be scheduled: the run is dropped, or is only being looked at. Whoever asks, schedules nothing."""
        if not self._dropped:
            self.host.check_open()
            raise ForbiddenInWorkflow("this code may only look: it cannot schedule, start or wake anything")
        self._refusals += 1
        # `while True: try: await ... except BaseException: pass` would hang the worker if it were refused for ever.
        # It is let go on, to something that never happens, and is closed or given up there.
        if self._refusals <= _REFUSALS:
            raise RunDropped(f"run {self.run_id} was dropped")

    # --- async generators -----------------------------------------------------------------------------------------

    def _generator_begins(self, generator: AsyncGenerator[Any, Any]) -> None:
        key = id(generator)
        if self._generators is NOTHING:
            self._generators = {}
        generators = self._generators
        generators[key] = weakref.ref(generator, lambda _: generators.pop(key, None))

    def _generator_dies(self, generator: AsyncGenerator[Any, Any]) -> None:
        """An async generator was let go of before its end; its ``finally`` may have to await something."""
        if self._dropped:
            self._close(generator, partial(_close_generator, generator), [])
        elif self._stepping and not self._shut and _get_running_loop() is self:
            self.create_task(generator.aclose())
        else:
            # A collector between steps has no place in the order of events: kept until the run is dropped.
            self._orphans += (generator,)

    async def shutdown_asyncgens(self) -> None:
        """Close every async generator that is still alive."""
        for generator in self._living_generators():
            await generator.aclose()

    def _living_generators(self) -> list[AsyncGenerator[Any, Any]]:
        return [found for reference in self._generators.values() if (found := reference()) is not None]

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:
        """There is none."""

    # --- closing --------------------------------------------------------------------------------------------------

    def _close_task(self, task: RunTask, interrupted: list[BaseException]) -> None:
        task._log_destroy_pending = False  # type: ignore[attr-defined]
        coroutine: object = task.get_coro()
        if coroutine is None or task.done():
            return

        def close() -> bool:
            # As the task itself would: timeouts and cancel scopes look for it, context variables are reset.
            asyncio_tasks._enter_task(self, task)
            try:
                return task.home.run(_close_coroutine, coroutine)
            finally:
                asyncio_tasks._leave_task(self, task)

        self._close(coroutine, close, interrupted)

    def _close(self, what: object, close: Callable[[], bool], interrupted: list[BaseException]) -> None:
        for _ in range(_CLOSINGS):
            try:
                closed = close() if self.watchdog is None else self.watchdog.run(self.label, close)
            except (KeyboardInterrupt, SystemExit) as error:
                interrupted.append(error)
                closed = False
            except BaseException:
                closed = False
            if closed:
                return
        _unclosable.append(what)
        logging.getLogger("durable").error(
            "run %s: %r swallows GeneratorExit and cannot be closed; it stays in memory. Do not catch BaseException, "
            "nor use a bare except, around an await without raising again",
            self.run_id,
            what,
        )

    # --- what asyncio asks a loop ---------------------------------------------------------------------------------

    def is_running(self) -> bool:
        """True in a step."""
        return self._stepping

    def is_closed(self) -> bool:
        """True after `drop`."""
        return self._dropped

    def get_debug(self) -> bool:
        """Never: asyncio's debug mode measures by the wall clock."""
        return False

    def set_debug(self, enabled: bool) -> None:
        """Debug mode cannot be switched on."""
        if enabled:
            raise ForbiddenInWorkflow(
                "set_debug(True) is not available in a workflow: set it for the worker's loop"
            )

    def get_task_factory(self) -> None:
        """There is none."""

    def set_task_factory(self, factory: object) -> None:
        """A task factory cannot be set."""
        if factory is not None:
            raise ForbiddenInWorkflow(
                "set_task_factory is not available in a workflow: the run makes its own tasks, whose order it knows"
            )

    def get_exception_handler(self) -> Callable[[asyncio.AbstractEventLoop, dict[str, Any]], object] | None:
        """What `set_exception_handler` was given."""
        return self._exception_handler

    def set_exception_handler(
        self, handler: Callable[[asyncio.AbstractEventLoop, dict[str, Any]], object] | None
    ) -> None:
        """Call ``handler(loop, context)`` for errors that nobody waits for; None: log them."""
        self._exception_handler = handler

    def default_exception_handler(self, context: dict[str, Any]) -> None:
        """Log the error to the logger ``asyncio``, like every loop."""
        error = context.get("exception")
        rest = ((key, value) for key, value in context.items() if key not in ("message", "exception"))
        details = "".join(f"\n{key}: {value!r}" for key, value in rest)
        _log.error(
            "%s (run %s)%s",
            context.get("message") or "Unhandled exception",
            self.run_id,
            details,
            exc_info=error,
        )

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Report an error that nobody waits for. A dropped run reports nothing."""
        if self._dropped:
            return
        if self._exception_handler is None:
            self.default_exception_handler(context)
            return
        try:
            self._exception_handler(self, context)
        except _FATAL:
            raise
        except BaseException as error:
            self.default_exception_handler(
                {"message": "Unhandled error in exception handler", "exception": error}
            )

    # --- what a workflow has no use for ---------------------------------------------------------------------------

    run_forever = _forbidden("run_forever", _DRIVEN)
    run_until_complete = _forbidden("run_until_complete", _DRIVEN)
    stop = _forbidden("stop", _DRIVEN)
    close = _forbidden("close", _DRIVEN)
    call_soon_threadsafe = _forbidden("call_soon_threadsafe", _ONE_THREAD)
    add_signal_handler = _forbidden("add_signal_handler", "operating system signals belong to the worker")
    remove_signal_handler = _forbidden(
        "remove_signal_handler", "operating system signals belong to the worker"
    )
    run_in_executor = _forbidden("run_in_executor", _TO_ACTIVITY)
    set_default_executor = _forbidden("set_default_executor", _TO_ACTIVITY)
    add_reader = _forbidden("add_reader", _TO_ACTIVITY)
    remove_reader = _forbidden("remove_reader", _TO_ACTIVITY)
    add_writer = _forbidden("add_writer", _TO_ACTIVITY)
    remove_writer = _forbidden("remove_writer", _TO_ACTIVITY)
    getaddrinfo = _forbidden("getaddrinfo", _TO_ACTIVITY)
    getnameinfo = _forbidden("getnameinfo", _TO_ACTIVITY)
    create_connection = _forbidden("create_connection", _TO_ACTIVITY)
    create_server = _forbidden("create_server", _TO_ACTIVITY)
    create_unix_connection = _forbidden("create_unix_connection", _TO_ACTIVITY)
    create_unix_server = _forbidden("create_unix_server", _TO_ACTIVITY)
    create_datagram_endpoint = _forbidden("create_datagram_endpoint", _TO_ACTIVITY)
    connect_accepted_socket = _forbidden("connect_accepted_socket", _TO_ACTIVITY)
    connect_read_pipe = _forbidden("connect_read_pipe", _TO_ACTIVITY)
    connect_write_pipe = _forbidden("connect_write_pipe", _TO_ACTIVITY)
    start_tls = _forbidden("start_tls", _TO_ACTIVITY)
    sendfile = _forbidden("sendfile", _TO_ACTIVITY)
    subprocess_shell = _forbidden("subprocess_shell", _TO_ACTIVITY)
    subprocess_exec = _forbidden("subprocess_exec", _TO_ACTIVITY)
    sock_recv = _forbidden("sock_recv", _TO_ACTIVITY)
    sock_recv_into = _forbidden("sock_recv_into", _TO_ACTIVITY)
    sock_recvfrom = _forbidden("sock_recvfrom", _TO_ACTIVITY)
    sock_recvfrom_into = _forbidden("sock_recvfrom_into", _TO_ACTIVITY)
    sock_sendall = _forbidden("sock_sendall", _TO_ACTIVITY)
    sock_sendto = _forbidden("sock_sendto", _TO_ACTIVITY)
    sock_connect = _forbidden("sock_connect", _TO_ACTIVITY)
    sock_accept = _forbidden("sock_accept", _TO_ACTIVITY)
    sock_sendfile = _forbidden("sock_sendfile", _TO_ACTIVITY)


def is_recorded(error: BaseException) -> bool:
    """True for an error that came out of history (marked by `mark_recorded`), not out of this process."""
    return getattr(error, "__durable_recorded__", False) is True


def mark_recorded(error: BaseException) -> None:
    """Say that ``error`` is an activity's or a child's, so that e.g. its ``RecursionError`` is not taken for ours."""
    error.__durable_recorded__ = True  # type: ignore[attr-defined]


def _rounded_up(delay_us: float, when_us: float) -> float:
    """Up to the whole microsecond, but not for the error of the floats it was computed with, which grows with them."""
    size = max(abs(delay_us), abs(when_us))
    if size == math.inf:
        return delay_us
    return math.ceil(round(delay_us, 3 if size < 1e12 else 1 if size < 1e14 else 0))


def _close_coroutine(coroutine: Any) -> bool:
    """True when it is closed; False when it went on to another await instead."""
    try:
        coroutine.close()
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException:
        return getattr(coroutine, "cr_frame", None) is None
    return True


def _close_generator(generator: AsyncGenerator[Any, Any]) -> bool:
    """Drive ``aclose`` without a loop; whatever it awaits is ended with ``GeneratorExit``."""
    closing = generator.aclose()
    try:
        closing.send(None)
        closing.throw(GeneratorExit)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException:
        pass
    return getattr(generator, "ag_frame", None) is None


_new_handle = asyncio.Handle.__new__
_DONE = _new_handle(asyncio.Handle)
