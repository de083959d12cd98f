"""Waiting for results: one look-up serves all handles of a client that wait."""

from __future__ import annotations

import asyncio
import contextlib

from durable.backends.contract import Backend
from durable.backends.records import CLOSED_STATES, InstanceRef, InstanceView
from durable.backends.wakeup import Listener
from durable.errors import BackendError

FIRST_POLL_SECONDS = 0.05


class Waiting:
    """Runs that somebody waits for. Looked up when the bell says that runs ended, and at the poll interval."""

    def __init__(self, store: Backend, poll_seconds: float) -> None:
        self._store = store
        self._poll = poll_seconds
        self._futures: dict[InstanceRef, set[asyncio.Future[InstanceView | None]]] = {}
        self._task: asyncio.Task[None] | None = None
        self._fresh = asyncio.Event()

    async def closed(self, ref: InstanceRef) -> InstanceView | None:
        """The run, once it has ended; ``None`` if there is no such run."""
        future: asyncio.Future[InstanceView | None] = asyncio.get_running_loop().create_future()
        self._futures.setdefault(ref, set()).add(future)
        self._fresh.set()
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._look())
        try:
            return await future
        finally:
            waiting = self._futures.get(ref)
            if waiting is not None:
                waiting.discard(future)
                if not waiting:
                    self._futures.pop(ref, None)

    async def close(self) -> None:
        """Stop looking; those who still wait are cancelled."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        for futures in self._futures.values():
            for future in futures:
                future.cancel()

    async def _look(self) -> None:
        listener = self._store.bell.listen("closed")
        wait = FIRST_POLL_SECONDS
        try:
            while self._futures:
                self._fresh.clear()
                with contextlib.suppress(BackendError):
                    self._settle(await self._views())
                if not self._futures:
                    break
                rang = await self._next(listener, wait)
                wait = FIRST_POLL_SECONDS if rang else min(wait * 2, self._poll)
        except Exception as error:
            self._fail(error)
        finally:
            listener.close()
            self._task = None

    async def _next(self, listener: Listener, seconds: float) -> bool:
        """Wait for the bell, a new handle, or the poll interval."""
        rung = asyncio.ensure_future(listener.wait(seconds))
        fresh = asyncio.ensure_future(self._fresh.wait())
        try:
            await asyncio.wait([rung, fresh], return_when=asyncio.FIRST_COMPLETED)
            return fresh.done() or (rung.done() and rung.result())
        finally:
            for waiter in (rung, fresh):
                waiter.cancel()

    async def _views(self) -> list[tuple[InstanceRef, InstanceView | None]]:
        refs = list(self._futures)
        answer = await self._store.get(refs)
        return list(zip(refs, answer.items, strict=True))

    def _settle(self, views: list[tuple[InstanceRef, InstanceView | None]]) -> None:
        for ref, view in views:
            if view is not None and view.state not in CLOSED_STATES:
                continue
            for future in self._futures.pop(ref, ()):
                if not future.done():
                    future.set_result(view)

    def _fail(self, error: Exception) -> None:
        for futures in self._futures.values():
            for future in futures:
                if not future.done():
                    future.set_exception(error)
        self._futures.clear()
