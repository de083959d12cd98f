"""Which event loop the client and the worker run on: asyncio's own, or uvloop's. Workflows have their own in any case.

It is one choice for a whole line, floor included.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from importlib import import_module, util
from typing import Any, TypeVar

R = TypeVar("R")
LOOPS = ("asyncio", "uvloop")

_chosen = ContextVar("chosen", default="asyncio")


def chosen() -> str:
    """The loop of this line."""
    return _chosen.get()


def is_there(name: str) -> bool:
    """Is it installed?"""
    return name == "asyncio" or util.find_spec(name) is not None


@contextmanager
def using(name: str) -> Iterator[None]:
    """What `run` runs in the block, it runs on this loop."""
    token = _chosen.set(name)
    try:
        yield
    finally:
        _chosen.reset(token)


def run(main: Coroutine[Any, Any, R]) -> R:
    """``asyncio.run``, on the chosen loop."""
    with asyncio.Runner(loop_factory=_factory()) as runner:
        return runner.run(main)


def _factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    if chosen() == "asyncio":
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = import_module(chosen()).new_event_loop
    return factory
