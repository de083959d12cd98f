"""The connections of a store.

Three gates, so that what must not wait for the rest does not: ordinary work, the renewal of leases (which would be
late when all else is slow, and cost work done twice), and transactions of activities (as long as their authors make
them). A connection is given back only when its state is known; one that is not used for a while is closed. When one
turns out to be dead, so are most likely all: the idle ones are dropped.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Literal

from durable.backends.mysql.driver import Link
from durable.errors import BackendError

Gate = Literal["work", "leases", "held"]
RESERVED = 1


class Pool:
    """Links of one store. ``connect`` makes one, and raises `BackendError` when it cannot."""

    def __init__(
        self,
        connect: Callable[[], Awaitable[Link]],
        *,
        url: str,
        size: int,
        idle_seconds: float,
        patience_seconds: float,
    ) -> None:
        self._connect = connect
        self._url = url
        self._idle_seconds = idle_seconds
        self._patience = patience_seconds
        self._gates: dict[Gate, asyncio.Semaphore] = {
            "work": asyncio.Semaphore(max(1, size - RESERVED)),
            "leases": asyncio.Semaphore(RESERVED),
            "held": asyncio.Semaphore(size),
        }
        self._idle: list[tuple[Link, float]] = []
        self._busy: set[Link] = set()
        self._closed = False

    @contextlib.asynccontextmanager
    async def link(self, gate: Gate = "work") -> AsyncIterator[Link]:
        """A connection, for as long as the block lasts. What comes back broken or in a transaction is not kept."""
        async with self._through(gate):
            link = self._take() or await self._connect()
            self._busy.add(link)
            try:
                yield link
            except BaseException:
                if not link.usable:
                    self._drop_idle()
                raise
            finally:
                self._busy.discard(link)
                self._give_back(link)

    @contextlib.asynccontextmanager
    async def fresh(self) -> AsyncIterator[Link]:
        """A new connection, which is closed afterwards: whoever had it may have set anything."""
        async with self._through("held"):
            link = await self._connect()
            self._busy.add(link)
            try:
                yield link
            finally:
                self._busy.discard(link)
                link.discard()

    @contextlib.asynccontextmanager
    async def _through(self, gate: Gate) -> AsyncIterator[None]:
        semaphore = self._gates[gate]
        try:
            async with asyncio.timeout(self._patience):
                await semaphore.acquire()
        except TimeoutError:
            raise BackendError(
                f"{self._url}: all connections were busy for {self._patience:g} s; raise pool_size, or see what the "
                "server is doing"
            ) from None
        try:
            if self._closed:
                raise BackendError(f"{self._url}: the store is closed")
            yield
        finally:
            semaphore.release()

    def _take(self) -> Link | None:
        self._drop_idle(before=time.monotonic() - self._idle_seconds)
        while self._idle:
            link, since = self._idle.pop()
            if link.usable and time.monotonic() - since < (link.idle_seconds or self._idle_seconds):
                return link
            link.discard()
        return None

    def _give_back(self, link: Link) -> None:
        if self._closed or not link.usable or link.in_transaction:
            link.discard()
        else:
            self._idle.append((link, time.monotonic()))

    def _drop_idle(self, *, before: float | None = None) -> None:
        kept = []
        for link, since in self._idle:
            if before is not None and since >= before:
                kept.append((link, since))
            else:
                link.discard()
        self._idle = kept

    async def close(self) -> None:
        """Close every connection, after what is under way (for as long as a call may take)."""
        self._closed = True
        for _ in range(int(self._patience * 20)):
            if not self._busy:
                break
            await asyncio.sleep(0.05)
        idle, self._idle = self._idle, []
        for link, _ in idle:
            await link.close()
        for link in list(self._busy):
            link.discard()
