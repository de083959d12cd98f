"""Clients on a memory store whose clock is moved by hand, and whose calls can be watched, held up and broken."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from durable.backends.memory import open_store
from durable.client.client import Client
from durable.core.payload import Converter, PlainCodec

Hook = Callable[..., Awaitable[Any]]
SECOND = 1_000_000
PATIENCE_SECONDS = 5.0
LOOKS = 2_000
"""How often `until` looks, every two milliseconds."""


class Clock:
    """The store's clock: the real one, plus what was skipped."""

    def __init__(self) -> None:
        import time

        self._now_ns = time.time_ns
        self.skipped_us = 0

    def __call__(self) -> int:
        return self._now_ns() // 1_000 + self.skipped_us

    def skip(self, seconds: float) -> None:
        self.skipped_us += round(seconds * SECOND)


class Store:
    """A store; ``hooks[name]`` is called instead of a method, with the method as its first argument."""

    def __init__(self, store: Any, clock: Clock) -> None:
        self.real = store
        self.clock = clock
        self.hooks: dict[str, Hook] = {}
        self.calls: list[str] = []

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.real, name)
        if not asyncio.iscoroutinefunction(method):
            return method

        async def call(*args: Any, **kwargs: Any) -> Any:
            self.calls.append(name)
            hook = self.hooks.get(name)
            return await (method(*args, **kwargs) if hook is None else hook(method, *args, **kwargs))

        return call

    def skip(self, seconds: float) -> None:
        """Move the clock, and let everybody look at it."""
        self.clock.skip(seconds)
        self.real.bell.ring("workflow", "activity", "closed")


@asynccontextmanager
async def connected(
    *, poll: float = 0.02, max_payload: int = 2 * 2**20
) -> AsyncIterator[tuple[Client, Store]]:
    """A client and its store."""
    clock = Clock()
    store = Store(await open_store("memory://", clock=clock), clock)
    client = Client(store, Converter(codec=PlainCodec(), max_payload_bytes=max_payload), poll)  # type: ignore[arg-type]
    client.clock.hear((await store.migrate()).now_us)
    try:
        yield client, store
    finally:
        await client.close()


async def until(condition: Callable[[], Any], what: str = "it") -> None:
    """Wait for something that the engine is about to do."""
    for _ in range(LOOKS):
        found = condition()
        if asyncio.iscoroutine(found):
            found = await found
        if found:
            return
        await asyncio.sleep(0.002)
    raise AssertionError(f"{what} did not happen")
