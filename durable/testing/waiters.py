"""Who waits for virtual time to go on: only then does it. Everybody else finds the time that they left."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

from durable.backends.records import InstanceRef

T = TypeVar("T")


@dataclass(slots=True, kw_only=True, eq=False)
class Waiter:
    """Somebody who waits for something of an instance. ``skips``: time goes on for it."""

    ref: InstanceRef
    what: str
    since_us: int
    skips: bool = True
    task: asyncio.Task[Any] | None = field(default_factory=asyncio.current_task)
    failed: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    def fail(self, error: BaseException) -> None:
        """Let it wait no longer."""
        if not self.failed.done():
            self.failed.set_exception(error)


class Waiters:
    """All of them. ``somebody`` is set while there is one."""

    def __init__(self) -> None:
        self._all: dict[Waiter, None] = {}
        self.somebody = asyncio.Event()

    def __iter__(self) -> Iterator[Waiter]:
        return iter(list(self._all))

    def __bool__(self) -> bool:
        return bool(self._all)

    async def wait(self, waiter: Waiter, work: Coroutine[Any, Any, T]) -> T:
        """What ``work`` gives. Raises what it raises, and what the waiter is failed with."""
        self._all[waiter] = None
        self.somebody.set()
        working = asyncio.ensure_future(work)
        try:
            either: list[asyncio.Future[Any]] = [working, waiter.failed]
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if not working.done():
                waiter.failed.result()
            return await working
        finally:
            working.cancel()
            if not waiter.failed.cancel() and not waiter.failed.cancelled():
                waiter.failed.exception()  # looked at: asyncio would complain that nobody did
            del self._all[waiter]
            if not self._all:
                self.somebody.clear()
