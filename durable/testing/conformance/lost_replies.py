"""A store whose every call is carried out and then fails: the caller cannot know, and repeats it.

It shows what a worker or client sees when a connection breaks between commit and reply.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from durable.errors import BackendError

_Call = Callable[..., Awaitable[Any]]


class LosesReplies:
    """Wraps a store: of each two calls in a row the first is carried out, and its reply is lost."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self._lost = False
        self.count = 0

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._store, name)
        return self._losing(name, found) if callable(found) else found

    def _losing(self, name: str, call: _Call) -> _Call:
        async def lose_every_second(*args: Any, **kwargs: Any) -> Any:
            reply = await call(*args, **kwargs)
            self._lost = not self._lost
            if self._lost:
                self.count += 1
                raise BackendError(f"the reply to {name} was lost")
            return reply

        return lose_every_second


class Repeats:
    """Wraps a store for a caller who does not give up: what failed is asked again, word for word."""

    def __init__(self, store: Any, attempts: int = 5) -> None:
        self._store = store
        self._attempts = attempts

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._store, name)
        return self._repeating(found) if callable(found) else found

    def _repeating(self, call: _Call) -> _Call:
        async def until_answered(*args: Any, **kwargs: Any) -> Any:
            for _ in range(self._attempts - 1):
                try:
                    return await call(*args, **kwargs)
                except BackendError:
                    continue
            return await call(*args, **kwargs)

        return until_answered
