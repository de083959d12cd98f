"""A store in trouble, as a worker sees it: a bell that nobody hears, a cable that is cut, calls that fail."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from durable.backends.wakeup import Bell
from durable.errors import BackendError


class Deaf:
    """Wraps a store whose wake-ups are all lost."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self.bell = Bell()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


class Cable:
    """Wraps a store that cannot be reached while ``cut``: nothing gets there, nothing comes back.

    ``begun`` counts the calls that were tried meanwhile.
    """

    def __init__(self, store: Any) -> None:
        self._store = store
        self.cut = False
        self.begun = 0

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._store, name)
        return self._if_whole(found) if callable(found) else found

    def _if_whole(self, call: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def if_whole(*args: Any, **kwargs: Any) -> Any:
            if self.cut:
                self.begun += 1
                raise BackendError("the cable is cut")
            return await call(*args, **kwargs)

        return if_whole


class Fails:
    """Wraps a store whose method ``name`` does nothing but fail the first time."""

    def __init__(self, store: Any, name: str) -> None:
        self._store = store
        self._name: str | None = name

    def __getattr__(self, name: str) -> Any:
        if name == self._name:
            return self._fail
        return getattr(self._store, name)

    async def _fail(self, *args: Any, **kwargs: Any) -> Any:
        failed, self._name = self._name, None
        raise BackendError(f"{failed} failed once")


class LosesEveryFirstReply:
    """Wraps a store: of each two calls of one method in a row the first is carried out, and its reply is lost.

    Unlike `LosesReplies` it goes by method, so that no caller is unlucky twice, however many there are.
    """

    def __init__(self, store: Any) -> None:
        self._store = store
        self._lost: set[str] = set()

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._store, name)
        return self._losing(name, found) if callable(found) else found

    def _losing(self, name: str, call: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def lose_every_second(*args: Any, **kwargs: Any) -> Any:
            reply = await call(*args, **kwargs)
            if name in self._lost:
                self._lost.discard(name)
                return reply
            self._lost.add(name)
            raise BackendError(f"the reply to {name} was lost")

        return lose_every_second


class Hands:
    """Wraps a store that hands out ``left`` more workflow tasks, and then no more."""

    def __init__(self, store: Any, left: int) -> None:
        self._store = store
        self.left = left

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def claim_workflow_tasks(self, claimant: Any, limit: int) -> Any:
        if self.left <= 0:
            return await self._store.get([])
        answer = await self._store.claim_workflow_tasks(claimant, min(limit, self.left))
        self.left -= len(answer.items)
        return answer
