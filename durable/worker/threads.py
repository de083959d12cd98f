"""Threads for activities that are plain functions. Not `ThreadPoolExecutor`, for which a process waits when it ends.

An activity may never return, and Python cannot end a thread: such a thread must neither keep the process alive nor take
a place from others. So these are daemons, a thread is started whenever none is idle, and the worker's slots are what
bounds them.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable
from typing import Any

Call = Callable[[], Any]


class Threads:
    """Runs calls in threads, and uses idle ones again."""

    def __init__(self) -> None:
        self._calls: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._idle = 0
        self._started = 0

    def run(self, call: Call) -> asyncio.Future[Any]:
        """A future of what ``call()`` gives or raises; cancelling it lets the thread go on for nobody."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        with self._lock:
            if self._idle:
                self._idle -= 1
            else:
                self._started += 1
                name = f"durable-activity-{self._started}"
                threading.Thread(target=self._work, name=name, daemon=True).start()
        self._calls.put(lambda: self._carry_out(call, loop, future))
        return future

    def close(self) -> None:
        """Let idle threads end."""
        with self._lock:
            for _ in range(self._idle):
                self._calls.put(None)
            self._idle = 0

    def _work(self) -> None:
        while (job := self._calls.get()) is not None:
            job()
            del job  # or the last call's arguments live for as long as the thread is idle

    def _carry_out(self, call: Call, loop: asyncio.AbstractEventLoop, future: asyncio.Future[Any]) -> None:
        value, error = _outcome(call)
        with self._lock:
            self._idle += 1  # before the result is told: who asks next need start no other thread
        with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile: nobody waits
            loop.call_soon_threadsafe(_settle, future, value, error)


def _outcome(call: Call) -> tuple[Any, BaseException | None]:
    try:
        return call(), None
    except StopIteration as stopped:  # a future cannot carry it
        error = RuntimeError(f"the activity raised {stopped!r}")
        error.__cause__ = stopped
        return None, error
    except BaseException as raised:
        return None, raised


def _settle(future: asyncio.Future[Any], value: Any, error: BaseException | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(value)
    else:
        future.set_exception(error)
