"""Group commit: gather what is ready while the previous call is in flight, and send it as one.

There is no waiting window: a lone item goes at once. This is how single requests become the plural calls of
the contract; it knows nothing of what they mean.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from durable.backends.records import Answer, Busy
from durable.errors import BackendError

MAX_ITEMS = 500
MAX_BYTES = 4 * 2**20
RETRY_FIRST_SECONDS = 0.05
RETRY_MOST_SECONDS = 2.0
BUSY_SECONDS = 0.01
BUSY_MOST_SECONDS = 0.25

HELD_SECONDS = 5.0
"""After so long it is told that somebody holds what an item needs, and after twice that again."""

Q = TypeVar("Q")
A = TypeVar("A")
_log = logging.getLogger("durable")


@dataclass(slots=True)
class _Held:
    """Since when an item is answered `Busy` (the loop's time), and after how long that is told next."""

    since: float
    told_seconds: float


class Batches(Generic[Q, A]):
    """Sends items in batches, one batch at a time, in order of arrival.

    ``call`` is a method of the contract. A call that raises `BackendError` is repeated with the same items
    (every call may be), for ever when ``patience_seconds`` is ``None``; then its items fail. A batch that the
    store cannot take for another reason is halved until the culprit stands alone. An item that is answered
    `Busy` joins the next batch, for as long as the patience lasts and somebody waits for its answer: what is held
    may be held for hours, by a transaction that somebody has left open.
    """

    def __init__(
        self,
        call: Callable[[Sequence[Q]], Awaitable[Answer[A]]],
        *,
        size_of: Callable[[Q], int] = lambda _: 0,
        patience_seconds: float | None = None,
    ) -> None:
        self._call = call
        self._size_of = size_of
        self._patience = patience_seconds
        self._waiting: deque[tuple[Q, asyncio.Future[tuple[A, int]]]] = deque()
        self._runner: asyncio.Task[None] | None = None
        self._busy: dict[asyncio.Future[tuple[A, int]], _Held] = {}
        self._busy_seconds = BUSY_SECONDS
        self._more = asyncio.Event()

    def submit(self, item: Q) -> asyncio.Future[tuple[A, int]]:
        """A future of the item's answer and the store's time."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[tuple[A, int]] = loop.create_future()
        self._waiting.append((item, future))
        if self._runner is None:
            self._runner = loop.create_task(self._run())
        else:
            self._more.set()
        return future

    async def idle(self) -> None:
        """Wait until everything that was submitted has been answered."""
        while self._runner is not None:
            await asyncio.wait([self._runner])

    async def _run(self) -> None:
        try:
            while self._waiting:
                self._more.clear()
                await self._send(self._cut())
        finally:
            self._runner = None

    def _cut(self) -> list[tuple[Q, asyncio.Future[tuple[A, int]]]]:
        batch: list[tuple[Q, asyncio.Future[tuple[A, int]]]] = []
        size = 0
        while self._waiting and len(batch) < MAX_ITEMS:
            size += self._size_of(self._waiting[0][0])
            if batch and size > MAX_BYTES:
                break
            batch.append(self._waiting.popleft())
        return batch

    async def _send(self, batch: list[tuple[Q, asyncio.Future[tuple[A, int]]]]) -> None:
        try:
            answer = await self._answered([item for item, _ in batch])
        except Exception as error:
            if len(batch) > 1 and not isinstance(error, BackendError):
                middle = len(batch) // 2
                await self._send(batch[:middle])
                await self._send(batch[middle:])
                return
            _log.error(
                "the store cannot take %s: %s: %s", type(batch[0][0]).__name__, type(error).__name__, error
            )
            for _, future in batch:
                self._busy.pop(future, None)
                if not future.done():
                    future.set_exception(error)
            return
        busy = 0
        for (asked, future), item in zip(batch, answer.items, strict=True):
            if isinstance(item, Busy):
                self._put_off(asked, future)
                busy += 1
                continue
            if self._busy:
                self._busy.pop(future, None)
            if not future.done():
                future.set_result((item, answer.now_us))
        if busy < len(batch):
            self._busy_seconds = BUSY_SECONDS
        elif 0 < len(self._waiting) <= busy:
            await self._rest()

    async def _rest(self) -> None:
        """All was held: rest until more is asked, each time longer, for it may be held for hours."""
        seconds = self._busy_seconds * random.uniform(0.5, 1.0)
        self._busy_seconds = min(2 * self._busy_seconds, BUSY_MOST_SECONDS)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._more.wait()

    def _put_off(self, asked: Q, future: asyncio.Future[tuple[A, int]]) -> None:
        """Somebody else holds what this one needs."""
        now = asyncio.get_running_loop().time()
        held = self._busy.setdefault(future, _Held(now, HELD_SECONDS))
        seconds = now - held.since
        if future.done():  # by a cancellation; and `idle` is not to wait for who may hold it for hours
            del self._busy[future]
            return
        if self._patience is not None and seconds > self._patience:
            del self._busy[future]
            future.set_exception(BackendError(_held(asked, seconds)))
            return
        if seconds > held.told_seconds:
            held.told_seconds = 2 * seconds
            _log.warning("%s", _held(asked, seconds))
        self._waiting.append((asked, future))

    async def _answered(self, items: Sequence[Q]) -> Answer[A]:
        loop = asyncio.get_running_loop()
        give_up = None if self._patience is None else loop.time() + self._patience
        delay = RETRY_FIRST_SECONDS
        while True:
            try:
                return await self._call(items)
            except BackendError as error:
                if give_up is not None and loop.time() + delay > give_up:
                    raise
                _log.warning("the store did not answer, trying again in %.2f s: %s", delay, error)
            await asyncio.sleep(delay * random.uniform(0.5, 1.0))
            delay = min(delay * 2, RETRY_MOST_SECONDS)


def _held(item: object, seconds: float) -> str:
    instance_id = getattr(getattr(item, "ref", item), "instance_id", None)
    return (
        f"instance {instance_id!r}: another transaction holds the instance, for more than {seconds:.0f} s; "
        "end it and try again"
    )
