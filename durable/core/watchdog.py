"""The watchdog: reports a step that keeps its thread busy, with its stack, and later interrupts it.

A step is synchronous, so while one runs its thread does nothing else: no heartbeat, no renewal, no other run. The
watchdog looks from a thread of its own. A step only leaves a note when it begins and takes it away when it ends.

The interrupt is an asynchronous exception, which CPython delivers to a thread, not to a call. `Watchdog.run` makes
sure that it never reaches whoever called the step: under one lock either the step has ended, and nothing is sent, or
it is sent to a step that will wait for it or take it back. A step that is stuck inside one C call (``time.sleep``
under another name) is reported on time, and interrupted when that call returns.
"""

from __future__ import annotations

import ctypes
import logging
import sys
import threading
import traceback
from collections.abc import Callable
from threading import get_ident
from time import monotonic
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

_log = logging.getLogger("durable")


class StepTooLong(BaseException):
    """A step was interrupted. Not an ``Exception``: ``except Exception`` in a workflow must not go on with it."""


class _Note:
    """What a running step leaves behind: whose it is, for how long it was seen running, what was done about it."""

    __slots__ = (
        "busy_seconds",
        "ended",
        "interrupt_at",
        "interrupted",
        "label",
        "reported",
        "seen_at",
        "thread_id",
    )

    def __init__(self, label: object, began: float, interrupt_at: float) -> None:
        self.label = label
        self.seen_at = began
        self.busy_seconds = 0.0
        self.interrupt_at = interrupt_at
        self.thread_id = get_ident()
        self.reported = self.interrupted = self.ended = False


class Watchdog:
    """Watches the steps of any number of threads. Its own thread starts with the first step.

    ``clock`` gives seconds; with ``start_thread=False`` nothing happens until somebody calls `check`.
    """

    def __init__(
        self,
        *,
        report_after: float = 2.0,
        interrupt_after: float = 10.0,
        clock: Callable[[], float] = monotonic,
        start_thread: bool = True,
    ) -> None:
        self.report_after_seconds = report_after
        self.interrupt_after_seconds = interrupt_after
        self._clock = clock
        self._automatic = start_thread
        self._notes: dict[int, _Note] = {}
        self._lock = threading.Lock()
        self._closing: threading.Event | None = None

    def run(self, label: object, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call ``function`` and give back its result; ``label`` names the run in reports.

        Raises what it raises, and `StepTooLong` when it was interrupted. Afterwards none is under way.
        """
        if self._closing is None:
            self.start()
        note = _Note(label, self._clock(), self.interrupt_after_seconds)
        try:
            try:
                # Inside: a note that stayed behind would bring interrupts on its thread for ever.
                self._notes[note.thread_id] = note
                return function(*args, **kwargs)
            finally:
                self._end(note)
        except StepTooLong:
            # It may have come while the line above was ending the note. `_end` may be repeated, and no second
            # interrupt is sent for as long as the first one took.
            self._end(note)
            raise

    def another_step(self) -> None:
        """Of those that `run` was given together, another one begins."""
        note = self._notes.get(get_ident())
        if note is not None:
            note.seen_at, note.busy_seconds, note.reported = self._clock(), 0.0, False
            note.interrupt_at = self.interrupt_after_seconds

    def check(self) -> None:
        """Look at every running step once. What the watchdog's own thread does all the time."""
        now = self._clock()
        for note in list(self._notes.values()):
            # A process that was stopped, or a machine that was asleep, is no busy step: one look counts only so much.
            note.busy_seconds += min(now - note.seen_at, self.interrupt_after_seconds / 2)
            note.seen_at = now
            if note.busy_seconds >= self.report_after_seconds and not note.reported:
                note.reported = True
                self._report(note)
            if note.busy_seconds >= note.interrupt_at:
                note.interrupt_at += self.interrupt_after_seconds
                self._interrupt(note)

    def close(self) -> None:
        """Stop the watchdog's thread. The next step starts a new one."""
        if self._closing is not None:
            self._closing.set()
            self._closing = None

    def _end(self, note: _Note) -> None:
        with self._lock:
            note.ended = True
            self._notes.pop(note.thread_id, None)
            if note.interrupted:
                _send(note.thread_id, None)
        if note.interrupted and note.thread_id == threading.get_ident():
            # CPython 3.11 goes on looking for what was taken back, until something arrives; and where there is a
            # tracer (a debugger, coverage) it then does nothing else, for ever. So something arrives. No function of
            # ours may be called before it has.
            try:
                ctypes.pythonapi.PyThreadState_SetAsyncExc(
                    ctypes.c_ulong(note.thread_id), ctypes.py_object(_Arrived)
                )
                for _ in range(1_000_000):
                    pass
            except _Arrived:
                pass

    def _interrupt(self, note: _Note) -> None:
        with self._lock:
            if not note.ended:
                note.interrupted = True
                _send(note.thread_id, StepTooLong)

    def _report(self, note: _Note) -> None:
        frame = sys._current_frames().get(note.thread_id)
        if note.ended or frame is None:
            return
        stack = "".join(traceback.format_stack(frame))
        _log.warning(
            "a step of run %s has kept its worker busy for %.1f s; a workflow must not compute for long or block: "
            "move such work into an activity\n%s",
            note.label,
            note.busy_seconds,
            stack,
        )

    def start(self) -> None:
        """Begin to watch, if that is not so already. Inside of a run it would be refused: threads are."""
        if not self._automatic or self._closing is not None:
            return
        self._closing = closing = threading.Event()
        threading.Thread(target=self._watch, args=(closing,), name="durable watchdog", daemon=True).start()

    def _watch(self, closing: threading.Event) -> None:
        pause = min(self.report_after_seconds, self.interrupt_after_seconds) / 4
        while not closing.wait(pause):
            self.check()


class _Arrived(BaseException):
    """Sent to oneself, and caught at once."""


def _send(thread_id: int, error: type[BaseException] | None) -> None:
    """Set, or with None take back, the asynchronous exception of a thread."""
    argument = ctypes.py_object() if error is None else ctypes.py_object(error)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread_id), argument)
