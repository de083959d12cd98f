"""Waiting for the workflow's own state."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta

from durable.core.context import current_run
from durable.core.retry import seconds


async def wait_condition(fn: Callable[[], object], timeout: float | timedelta | None = None) -> None:
    """Wait until ``fn()`` is true; it is asked after every step of the run, and may only look.

    ``timeout`` is seconds or ``timedelta``. Raises ``TimeoutError``, and whatever ``fn`` raises.
    """
    run = current_run("durable.wait_condition()")
    limit = seconds(timeout, "timeout")
    with run.read_only("a condition"):
        holds = fn()
    if holds:
        return
    future: asyncio.Future[None] = run.loop.create_future()
    run.wake_when(future, fn)
    try:
        async with asyncio.timeout(limit):
            await future
    finally:
        del run.conditions[future]
