"""Functions of asyncio that a workflow must not call, and that would not raise by themselves.

They would change the worker's own loop (``set_event_loop``), open descriptors before anything can refuse them (a new
loop), or wait for ever without a word (``wrap_future``: what another thread finishes can never reach a run). The other
things a workflow has no use for are refused by its loop, or by the guards of the world outside.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import functools
from asyncio import base_events, events, futures
from collections.abc import Callable
from typing import Any

from durable.errors import ForbiddenInWorkflow

_OWN_LOOP = "the run has a loop of its own, and that of the thread is the worker's"

_REFUSED = {
    "new_event_loop": _OWN_LOOP,
    "set_event_loop": _OWN_LOOP,
    "set_event_loop_policy": _OWN_LOOP,
    "set_child_watcher": "subprocesses belong into activities",
}


def install(in_step: Callable[[], bool], replace: Callable[[Any, str, Any], None]) -> None:
    """Put the refusals in place, each by ``replace(module, name, function)``.

    ``in_step`` says whether a run is in a step in this thread.
    """
    for name, instead in _REFUSED.items():
        # `asyncio.__getattr__` of Python 3.12 and later answers for some of them with a warning.
        real = vars(events).get(name)
        if real is not None:
            for module in (asyncio, events):
                replace(module, name, _refusing(real, f"asyncio.{name}", instead, in_step))
    wrap_future = _wrapping(futures.wrap_future, in_step)
    for module in (asyncio, futures):
        replace(module, "wrap_future", wrap_future)
    base_events.BaseEventLoop.__init__ = _making(base_events.BaseEventLoop.__init__, in_step)  # type: ignore[method-assign]


def _refusal(what: str, instead: str) -> ForbiddenInWorkflow:
    return ForbiddenInWorkflow(f"{what} is not available in a workflow: {instead}")


def _refusing(
    real: Callable[..., Any], what: str, instead: str, in_step: Callable[[], bool]
) -> Callable[..., Any]:
    @functools.wraps(real)
    def function(*args: Any, **kwargs: Any) -> Any:
        if in_step():
            raise _refusal(what, instead)
        return real(*args, **kwargs)

    return function


def _wrapping(real: Callable[..., Any], in_step: Callable[[], bool]) -> Callable[..., Any]:
    @functools.wraps(real)
    def wrap_future(future: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(future, concurrent.futures.Future) and in_step():
            raise _refusal(
                "asyncio.wrap_future of a concurrent.futures.Future",
                "another thread would finish it, which a run never sees. Move this work into an activity",
            )
        return real(future, *args, **kwargs)

    return wrap_future


def _making(real: Callable[..., None], in_step: Callable[[], bool]) -> Callable[..., None]:
    @functools.wraps(real)
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        if in_step():
            self._closed = True  # or its finalizer complains of a loop that was never opened
            raise _refusal("making an event loop", _OWN_LOOP)
        real(self, *args, **kwargs)

    return __init__
