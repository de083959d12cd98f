"""A worker that can be watched, taught and killed. Everything else about it is the real one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Self

from durable.worker.worker import Worker


class MortalWorker(Worker):
    """Tells which attempts it runs, learns definitions while it works, and can die without any clean-up.

    Its retries have no jitter, so that the same test takes the same time to the microsecond.
    """

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        assert self._parts is not None
        self._parts.random = lambda: 0.5
        return self

    def attempts(self) -> list[asyncio.Task[None]]:
        """The attempts of activities that run now."""
        parts = self._parts
        if parts is None:
            return []
        return [attempt.task for attempt in parts.activities.abandoned() if attempt.task is not None]

    def learn(self) -> None:
        """Claim what the registry holds now."""
        if self._parts is not None:
            self._parts.learn()

    def serve(self, queue: str) -> bool:
        """Take tasks of this queue as well; whether that is new."""
        parts = self._parts
        if parts is None or queue in parts.queues:
            return False
        parts.queues = self._queues = (*parts.queues, queue)
        return True

    def die(self) -> None:
        """End every task of this worker; its store must not answer it any more. May be repeated.

        As close to a killed process as one comes inside of one: what it had not written is lost. Only a function that
        is in the middle of an await still sees ``CancelledError``.
        """
        parts = self._parts
        if parts is None:
            return
        parts.draining = True
        for task in [*self._claimers, self._renewer, *self.attempts()]:
            if task is not None:
                task.cancel()
        parts.claims.close()
        self._questions.close()
        for warm in parts.workflow_tasks.cache:
            parts.workflow_tasks.cache.evict(warm.run_id)

    async def bury(self) -> None:
        """After `die`: let go of the threads and processes of its own, and of what waits for answers."""
        self.die()
        parts, self._parts = self._parts, None
        if parts is None:
            return
        for task in list(parts._tasks):
            task.cancel()
        await asyncio.sleep(0)
        await parts.processes.close()
        parts.watchdog.close()


class Mortal:
    """A worker's way to its store: every call passes ``gate`` before and behind, and once ``dead`` none is answered."""

    def __init__(self, store: Any, gate: Callable[[str, str, Any], Awaitable[None]]) -> None:
        self._store = store
        self._gate = gate
        self.dead = False
        self._closed = False
        self._waiting: set[asyncio.Task[Any]] = set()

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._store, name)
        return self._passing(name, found) if asyncio.iscoroutinefunction(found) else found

    def _passing(self, name: str, call: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def passing(*args: Any, **kwargs: Any) -> Any:
            await self.unless_dead()
            await self._gate(name, "before", args)
            answer = await call(*args, **kwargs)
            await self._gate(name, "after", (args, answer))
            await self.unless_dead()
            return answer

        return passing

    async def unless_dead(self) -> None:
        """Never return to the dead: whoever asks waits until `close`, and is cancelled then."""
        if not self.dead:
            return
        if self._closed:
            raise asyncio.CancelledError("the worker is dead")
        task = asyncio.current_task()
        assert task is not None
        self._waiting.add(task)
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            self._waiting.discard(task)

    def close(self) -> None:
        """Cancel those who wait for an answer that never comes."""
        self._closed = True
        for task in self._waiting:
            task.cancel()
