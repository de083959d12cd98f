"""A connection with a thread of its own, which does what coroutines ask of it, as much at a time as has been asked.

This is the store's group commit: all calls that wait when the thread is free become one batch, and so one transaction
and one fsync. There is no waiting window. A caller that is cancelled leaves nothing behind but a result that nobody
wants: it was never inside the connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import queue
import threading
from collections.abc import Awaitable, Callable
from typing import Any, Generic, Protocol, TypeVar

from durable.errors import BackendError

R = TypeVar("R")


class Call(Generic[R]):
    """One request, on its way to the thread and back."""

    __slots__ = ("durable", "error", "future", "loop", "result", "work")

    def __init__(
        self, work: Callable[[Any], R], loop: asyncio.AbstractEventLoop, *, durable: bool = True
    ) -> None:
        self.work = work
        self.durable = durable
        self.loop = loop
        self.future: asyncio.Future[R] = loop.create_future()
        self.result: R | None = None
        self.error: BaseException | None = None

    def settle(self) -> None:
        """Tell the caller. Runs on its loop."""
        if self.future.done():
            return
        if self.error is not None:
            self.future.set_exception(self.error)
        else:
            self.future.set_result(self.result)  # type: ignore[arg-type]


class _Sign:
    """What is put into the queue and is no call."""


_NUDGE = _Sign()
_STOP = _Sign()


class Crew(Protocol):
    """What a lane's thread does. All of it runs on that thread."""

    def open(self) -> None:
        """Come to work."""
        ...

    def run(self, calls: list[Call[Any]]) -> None:
        """Set ``result`` or ``error`` of every call. Must not raise."""
        ...

    def idle(self) -> None:
        """Nothing was asked for a while."""
        ...

    def after(self) -> None:
        """The callers have been told; there may be tidying up to do."""
        ...

    def close(self) -> None:
        """Go home."""
        ...


class Lane:
    """A thread with its queue. ``idle_seconds``, read before each wait: time until `Crew.idle` (``None``: never)."""

    def __init__(self, name: str, crew: Crew) -> None:
        self._name = name
        self._crew = crew
        self._calls: queue.SimpleQueue[Call[Any] | _Sign] = queue.SimpleQueue()
        self._pid = os.getpid()
        self._closed = False
        self._thread = threading.Thread(target=self._main, name=f"durable-{name}", daemon=True)
        self.idle_seconds: float | None = None

    async def start(self) -> None:
        """Begin; raises what `Crew.open` raises."""
        opened = Call(lambda _: None, asyncio.get_running_loop())
        self._opened = opened
        self._thread.start()
        await asyncio.shield(opened.future)

    def call(self, work: Callable[[Any], R], *, durable: bool = True) -> Awaitable[R]:
        """Have something done. ``durable=False``: what it writes may be forgotten when the machine fails."""
        if os.getpid() != self._pid:
            raise BackendError(
                f"{self._name} was opened before this process was forked; open the store again in the child"
            )
        if self._closed:
            raise BackendError(f"{self._name} is closed")
        call = Call(work, asyncio.get_running_loop(), durable=durable)
        self._calls.put(call)
        return call.future

    def wake(self) -> None:
        """Have ``idle_seconds`` looked at again."""
        if not self._closed and os.getpid() == self._pid:
            self._calls.put(_NUDGE)

    async def close(self) -> None:
        """Finish what was asked for, and end the thread."""
        if os.getpid() != self._pid:
            return
        self._closed = True
        if self._thread.is_alive():
            self._calls.put(_STOP)
            await asyncio.to_thread(self._thread.join)

    # --- on the thread

    def _main(self) -> None:
        try:
            self._crew.open()
        except BaseException as error:
            self._opened.error = error
            self._tell([self._opened])
            return
        self._tell([self._opened])
        try:
            self._work()
        finally:
            self._crew.close()

    def _work(self) -> None:
        more = True
        while more:
            try:
                first = self._calls.get(timeout=self.idle_seconds)
            except queue.Empty:
                self._crew.idle()
                continue
            calls, more = self._gather(first)
            if calls:
                self._crew.run(calls)
                self._tell(calls)
                self._crew.after()

    def _gather(self, first: Call[Any] | _Sign) -> tuple[list[Call[Any]], bool]:
        calls: list[Call[Any]] = []
        while first is not _STOP:
            if isinstance(first, Call):
                calls.append(first)
            try:
                first = self._calls.get_nowait()
            except queue.Empty:
                return calls, True
        return calls, False

    def _tell(self, calls: list[Call[Any]]) -> None:
        by_loop: dict[asyncio.AbstractEventLoop, list[Call[Any]]] = {}
        for call in calls:
            by_loop.setdefault(call.loop, []).append(call)
        for loop, its_calls in by_loop.items():
            with contextlib.suppress(RuntimeError):  # the loop was closed: nobody waits there any more
                loop.call_soon_threadsafe(_settle, its_calls)


def _settle(calls: list[Call[Any]]) -> None:
    for call in calls:
        call.settle()
