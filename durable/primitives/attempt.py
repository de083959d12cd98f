"""What activity code sees of its own attempt: heartbeats, information, completing later.

The worker puts an `Attempt` into a context variable before it calls the function; threads inherit it.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class ActivityInfo:
    """One attempt. ``attempt`` counts from 1; ``deadline`` is when it will be given up (``None``: no limit).

    ``last_heartbeat`` is what an earlier attempt (or delivery) told last, as plain JSON values. ``client`` is the
    worker's client (``None`` in a process of its own).
    """

    attempt: int
    instance_id: str
    run_id: str
    task_id: str
    name: str
    workflow: str
    queue: str
    deadline: datetime | None
    scheduled_at: datetime
    last_heartbeat: Any
    client: Any
    headers: Mapping[str, str] = field(default_factory=dict)


class Attempt(Protocol):
    """What the worker offers to the running attempt."""

    @property
    def info(self) -> ActivityInfo: ...

    def heartbeat(self, details: Any) -> None: ...

    def complete_later(self) -> Any: ...

    def transaction(self) -> AbstractAsyncContextManager[Any]: ...


current_attempt: ContextVar[Attempt | None] = ContextVar("durable_attempt", default=None)


def _attempt(what: str) -> Attempt:
    attempt = current_attempt.get()
    if attempt is None:
        raise RuntimeError(f"{what} works inside an activity that a worker runs")
    return attempt


def activity_info() -> ActivityInfo:
    """What this attempt is. Raises ``RuntimeError`` outside of an activity."""
    return _attempt("durable.activity_info()").info


def heartbeat(details: Any = None) -> None:
    """Say that the activity is alive; also in threads and processes.

    ``details`` (plain JSON values) are handed to the next attempt as ``activity_info().last_heartbeat``. Raises
    ``asyncio.CancelledError`` after the activity was cancelled or given to another worker, `PayloadError` for details
    that cannot be encoded.
    """
    _attempt("durable.heartbeat()").heartbeat(details)


def transaction() -> AbstractAsyncContextManager[Any]:
    """A transaction on the engine's database, for ``async`` activities: ``async with durable.transaction() as conn:``.

    ``conn`` is a connection of the store's driver (aiosqlite, asyncpg, aiomysql). What is written through it is
    committed together with the activity's own result when the function returns: both or neither, exactly once. If the
    function raises, all is rolled back. At most one for each attempt; write and return soon: others wait for the locks.

    Raises ``RuntimeError`` outside of an ``async`` activity, `BackendError` on stores that have no such transactions.
    """
    return _attempt("durable.transaction()").transaction()


def complete_later() -> Any:
    """Leave the activity open and finish it from elsewhere; the function's return value is ignored.

    Gives a token (``str``) for ``client.complete_activity(token, result)`` and ``client.fail_activity(token, error)``:
    to be awaited in ``async`` activities, plain in threads.
    """
    return _attempt("durable.complete_later()").complete_later()
