"""Connections, lent and taken back. What is not known to be in order is thrown away, never lent again.

asyncpg's own pool would send a statement each time that a connection comes back; ours hold no state to be cleared.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from durable.backends.postgres.address import Address
from durable.errors import BackendError


class Pool:
    """At most ``size`` connections, the last one used lent first; those that are idle for long are closed."""

    def __init__(self, address: Address, size: int, connect: Callable[[], Awaitable[Any]]) -> None:
        self._address = address
        self._connect = connect
        self._free = asyncio.Semaphore(size)
        self._idle: list[tuple[Any, float]] = []
        self._lent: set[Any] = set()
        self._size = size
        self._closed = False
        self._sweeper: asyncio.TimerHandle | None = None

    @contextlib.asynccontextmanager
    async def lent(self) -> AsyncIterator[Loan]:
        """A connection, for so long as the block lasts. It is kept only if the block says that it is sound."""
        if self._closed:
            raise BackendError(f"{self._address.url}: the store is closed")
        if self._free.locked():
            await self._one_is_free()
        else:  # at once, without a timer
            await self._free.acquire()
        try:
            loan = Loan(self._last_idle() or await self._connect())
            self._lent.add(loan.connection)
            try:
                yield loan
            finally:
                self._take_back(loan)
        finally:
            self._free.release()

    async def _one_is_free(self) -> None:
        try:
            async with asyncio.timeout(self._address.call_seconds):
                await self._free.acquire()
        except TimeoutError:
            raise BackendError(
                f"{self._address.url}: all {self._size} connections were in use for "
                f"{self._address.call_seconds:g} s; raise pool_size"
            ) from None

    def _last_idle(self) -> Any:
        while self._idle:
            connection, _ = self._idle.pop()
            if not connection.is_closed():
                return connection
        return None

    def _take_back(self, loan: Loan) -> None:
        self._lent.discard(loan.connection)
        if loan.sound and not self._closed and not loan.connection.is_closed():
            self._idle.append((loan.connection, time.monotonic()))
            self._sweep_later()
        else:
            loan.connection.terminate()

    def _sweep_later(self) -> None:
        if self._sweeper is None:
            delay = self._address.pool_idle_seconds
            self._sweeper = asyncio.get_running_loop().call_later(delay, self._sweep)

    def _sweep(self) -> None:
        self._sweeper = None
        old = time.monotonic() - self._address.pool_idle_seconds * 0.99
        for connection, since in self._idle:
            if since <= old:
                connection.terminate()
        self._idle = [(connection, since) for connection, since in self._idle if since > old]
        if self._idle:
            self._sweep_later()

    async def close(self) -> None:
        """Wait for what is lent, for as long as a statement may take, and close all."""
        self._closed = True
        if self._sweeper is not None:
            self._sweeper.cancel()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._address.call_seconds):
                for _ in range(self._size):
                    await self._free.acquire()
        for connection in [*self._lent, *(connection for connection, _ in self._idle)]:
            with contextlib.suppress(Exception):
                await connection.close(timeout=1)
        self._idle.clear()


class Loan:
    """A connection that is lent. ``sound``: nothing is under way on it."""

    __slots__ = ("connection", "sound")

    def __init__(self, connection: Any) -> None:
        self.connection = connection
        self.sound = False
