"""Durable timers. ``asyncio.sleep`` and every other delay in a workflow are durable too; these add names and dates."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

from durable.core.context import RunContext, current_run
from durable.core.retry import seconds as to_seconds


async def sleep(seconds: float | timedelta, name: str | None = None) -> None:
    """Wait for a time (seconds or ``timedelta``; not positive: not at all). ``name`` is shown in the history.

    Raises ``ValueError`` for NaN, and for more than a thousand years: to wait for ever, await an ``asyncio.Event()``.
    """
    run = current_run("durable.sleep()")
    delay = to_seconds(seconds, "seconds", negative=True)
    when = run.loop.time() + delay
    if when <= run.loop.time():
        await asyncio.sleep(0)
        return
    future, handle = _wake_at(run, when, name)
    try:
        await future
    finally:
        handle.cancel()


async def sleep_until(when: datetime) -> None:
    """Wait until a point in time. A ``datetime`` without time zone is UTC."""
    run = current_run("durable.sleep_until()")
    seconds = (micros_of(when) - run.started_us) / 1e6
    if seconds <= run.loop.time():
        await asyncio.sleep(0)
        return
    future, handle = _wake_at(run, seconds, None)
    try:
        await future
    finally:
        handle.cancel()


def micros_of(when: datetime) -> int:
    """Microseconds since the epoch, exactly; a ``datetime`` without time zone is UTC."""
    if not isinstance(when, datetime):
        raise TypeError(f"a point in time is a datetime, not {when!r}")
    aware = when if when.tzinfo is not None else when.replace(tzinfo=UTC)
    return (aware - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def _wake_at(run: RunContext, when: float, name: str | None) -> tuple[asyncio.Future[None], asyncio.Handle]:
    """What to await, and what to cancel then. No coroutine of its own: it would take memory while all sleep."""
    future: asyncio.Future[None] = run.loop.create_future()
    if name is not None:
        run.timer_name = name
    handle = run.loop.call_at(when, _wake, future)
    if name is not None:
        run.timer_name = None
    return future, handle


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
