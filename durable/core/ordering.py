"""Hashes and order that are the same in every process for one run, and different between runs.

Sets iterate by hash, and asyncio and anyio keep what they wait for and what they cancel in sets; by default these
objects hash by address. So a run's tasks and futures hash by a mix of the run's seed and the number of their
creation, which makes ``asyncio.wait``, ``TaskGroup`` aborts and user-made sets deterministic without versions of our
own. Runs must differ: asyncio keeps the tasks of the whole process in one weak set, and equal hashes make it quadratic.

What a subclass cannot reach is patched, once, when this module is imported. Outside of a run every patch does what
the original did:

- ``asyncio.as_completed``: CPython builds a set of bare coroutines, whose order is that of their addresses.
- ``asyncio.all_tasks``: CPython's answer is copied from a set whose order depends on the tasks of all other runs.
- ``gather``'s outer futures: they are made by asyncio itself, not by ``loop.create_future``.
- anyio's ``CancelScope`` (every task has one, and scopes keep each other in sets) and ``TaskHandle``.

Not covered, because nothing but the object's address is there to hash: a future made by calling ``asyncio.Future()``
instead of ``loop.create_future()``, coroutine objects, and user objects without a ``__hash__`` of their own. Modules
that did ``from asyncio import as_completed`` before this module was imported keep the original; given tasks or futures
it is deterministic all the same, given bare coroutines it is not.
"""

from __future__ import annotations

import asyncio
import contextvars
import zlib
from asyncio import events, tasks
from collections.abc import Iterable
from typing import Any

from anyio._backends import _asyncio as anyio_backend
from anyio._core._tasks import TaskHandle

from durable.errors import ForbiddenInWorkflow

_GOLDEN = 0x9E3779B97F4A7C15
HASH_MASK = (1 << 60) - 1


class OrderedLoop(asyncio.AbstractEventLoop):
    """What the patches need of a run's loop: a source of hashes, and its tasks in the order of their creation."""

    __slots__ = ("_last_hash", "tasks")

    def __init__(self, seed: str) -> None:
        # Not hash(str): it differs between processes. Multiplied, so that runs are far apart: their numbers are near.
        self._last_hash = (zlib.crc32(seed.encode()) * _GOLDEN) & HASH_MASK
        self.tasks: dict[int, RunTask] = {}
        """The tasks that have not finished, by their hash. Strong references: asyncio itself keeps weak ones only."""

    def next_hash(self) -> int:
        """The hash for the next object of this run."""
        self._last_hash = made = (self._last_hash + 1) & HASH_MASK
        return made


class RunTask(asyncio.Task[Any]):
    """A task of a run. ``order`` must be set before ``__init__``, which puts the task in asyncio's weak set."""

    __slots__ = ("home", "order")

    order: int
    home: contextvars.Context
    """The context it runs in. (``get_context`` came with Python 3.12.)"""

    def __hash__(self) -> int:
        return self.order


class RunFuture(asyncio.Future[Any]):
    """A future of a run."""

    __slots__ = ("order",)

    order: int

    def __hash__(self) -> int:
        return self.order


class _RunScope(anyio_backend.CancelScope):
    """A cancel scope made in a run."""

    __slots__ = ("_order",)

    def __hash__(self) -> int:
        return self._order  # type: ignore[attr-defined, no-any-return]


def _running() -> OrderedLoop | None:
    loop = events._get_running_loop()
    return loop if isinstance(loop, OrderedLoop) else None


# --- anyio -----------------------------------------------------------------------------------------------------------


def _new_scope(cls: type[Any], *args: Any, **kwargs: Any) -> Any:
    # The class has slots and no room for a number, so a scope made in a run is of a subclass. Every other scope keeps
    # its class, and with it `object.__hash__`.
    if cls is anyio_backend.CancelScope and (loop := _running()) is not None:
        scope = object.__new__(_RunScope)
        scope._order = loop.next_hash()  # type: ignore[attr-defined]
        return scope
    return object.__new__(cls)


def _hash_of_handle(self: Any) -> int:
    # A handle has one scope all its life, which nobody shares.
    return hash(self._cancel_scope)


# --- gather ----------------------------------------------------------------------------------------------------------

_make_gathering = tasks._GatheringFuture.__init__  # type: ignore[attr-defined]


def _init_gathering(self: Any, children: Any, *, loop: asyncio.AbstractEventLoop) -> None:
    # Numbered when made and not when first hashed: what hashes it first may be a debugger that looks at one replay.
    if isinstance(loop, OrderedLoop):
        self._durable_order = loop.next_hash()
    _make_gathering(self, children, loop=loop)


def _hash_of_gathering(self: Any) -> int:
    order: int | None = getattr(self, "_durable_order", None)
    return object.__hash__(self) if order is None else order


# --- functions of asyncio --------------------------------------------------------------------------------------------

_as_completed = asyncio.as_completed
_all_tasks = asyncio.all_tasks


def as_completed(fs: Iterable[Any], *, timeout: float | None = None) -> Any:
    """``asyncio.as_completed``; in a workflow the awaitables become tasks in the order in which they are given.

    Raises `ForbiddenInWorkflow` for a set of bare coroutines in a workflow, which has no such order.
    """
    loop = _running()
    if loop is None or asyncio.isfuture(fs) or asyncio.iscoroutine(fs):
        return _as_completed(fs, timeout=timeout)
    if isinstance(fs, set | frozenset) and not all(map(asyncio.isfuture, fs)):
        raise ForbiddenInWorkflow(
            "asyncio.as_completed was given a set of coroutines, whose order differs from process to process: "
            "give it a list"
        )
    # dict.fromkeys: the original takes an awaitable that is given twice as one.
    return _as_completed([asyncio.ensure_future(f, loop=loop) for f in dict.fromkeys(fs)], timeout=timeout)


def all_tasks(loop: asyncio.AbstractEventLoop | None = None) -> set[asyncio.Task[Any]]:
    """``asyncio.all_tasks``; for a workflow's loop the set is built in the order of creation."""
    asked = _running() if loop is None else loop
    if isinstance(asked, OrderedLoop):
        return {task for task in asked.tasks.values() if not task.done()}
    return _all_tasks(loop)


def _patch() -> None:
    for module in (asyncio, tasks):
        module.as_completed = as_completed  # type: ignore[attr-defined]
        module.all_tasks = all_tasks  # type: ignore[attr-defined]
    # anyio took this name for itself when it was imported, above.
    anyio_backend.all_tasks = all_tasks  # type: ignore[attr-defined]
    anyio_backend.CancelScope.__new__ = _new_scope  # type: ignore[method-assign]
    TaskHandle.__hash__ = _hash_of_handle  # type: ignore[method-assign]
    gathering = tasks._GatheringFuture  # type: ignore[attr-defined]
    gathering.__init__ = _init_gathering
    gathering.__hash__ = _hash_of_gathering


_patch()
