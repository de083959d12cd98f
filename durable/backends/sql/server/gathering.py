"""The group commit: calls of one kind that arrive while one is in flight become one call. There is no waiting window.

A caller that is cancelled leaves nothing behind but an answer that nobody wants.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from durable.backends.records import Answer

MAX_ITEMS = 500

Q = TypeVar("Q")
A = TypeVar("A")


class Gathering(Generic[Q, A]):
    """``answer`` is asked for many items at once; a call is never cut in two."""

    def __init__(self, answer: Callable[[Sequence[Q]], Awaitable[Answer[A]]]) -> None:
        self._answer = answer
        self._waiting: deque[tuple[Sequence[Q], asyncio.Future[Answer[A]]]] = deque()
        self._runner: asyncio.Task[None] | None = None

    async def ask(self, items: Sequence[Q]) -> Answer[A]:
        """The answers to these items."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Answer[A]] = loop.create_future()
        self._waiting.append((tuple(items), future))
        if self._runner is None:
            self._runner = loop.create_task(self._run())
        return await future

    async def idle(self) -> None:
        """Wait until all that was asked is answered."""
        while self._runner is not None:
            await asyncio.wait([self._runner])

    async def _run(self) -> None:
        try:
            while self._waiting:
                await self._send(self._cut())
        finally:
            self._runner = None

    def _cut(self) -> list[tuple[Sequence[Q], asyncio.Future[Answer[A]]]]:
        calls = [self._waiting.popleft()]
        count = len(calls[0][0])
        while self._waiting and count + len(self._waiting[0][0]) <= MAX_ITEMS:
            count += len(self._waiting[0][0])
            calls.append(self._waiting.popleft())
        return calls

    async def _send(self, calls: list[tuple[Sequence[Q], asyncio.Future[Answer[A]]]]) -> None:
        try:
            answer = await self._answer([item for items, _ in calls for item in items])
        except BaseException as error:
            for _, future in calls:
                if not future.done():
                    future.set_exception(error)
            if not isinstance(error, Exception):
                raise
            return
        at = 0
        for items, future in calls:
            if not future.done():
                future.set_result(Answer(now_us=answer.now_us, items=answer.items[at : at + len(items)]))
            at += len(items)
