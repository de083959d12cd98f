"""A store that tells when something happens in it: how virtual time learns that nothing can run, without a sleep.

It changes no call and no answer. Claims that hand out nothing are what an idle worker does, so they are noted (with
the time at which the worker would look again) but do not count as something that happened.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

_CLAIMS = frozenset({"claim_workflow_tasks", "claim_activity_tasks"})
_IF_FOUND = _CLAIMS | {"claim_questions", "claim_stalled_tasks"}
_LOOKS = frozenset({"extend", "get", "replies"})
"""What is done over and over while nothing happens."""


class Stirring:
    """Wakes all who wait for anything at all to happen."""

    def __init__(self) -> None:
        self._waiting: list[asyncio.Future[None]] = []

    def stir(self) -> None:
        """Something happened."""
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            if not future.done():
                future.set_result(None)

    def next(self) -> asyncio.Future[None]:
        """A future of the next time that something happens."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        return future


class Watched:
    """Wraps a store. ``happened`` counts what was done; ``looks`` the claims, ``wakes`` when each looks again.

    ``on_queue`` is told each queue of which something is written, before it is.
    """

    def __init__(self, store: Any, stirring: Stirring, on_queue: Callable[[str], None]) -> None:
        self._store = store
        self._stirring = stirring
        self._on_queue = on_queue
        self.happened = 0
        self.looks: Counter[str] = Counter()
        self.wakes: dict[str, int | None] = {}

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._store, name)
        return self._watched(name, found) if asyncio.iscoroutinefunction(found) else found

    def _watched(self, name: str, call: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def watched(*args: Any, **kwargs: Any) -> Any:
            for queue in _queues(name, args):
                self._on_queue(queue)
            answer = await call(*args, **kwargs)
            if name in _CLAIMS:
                self.looks[name] += 1
                self.wakes[name] = answer.next_wake_us
            if name not in _LOOKS and (name not in _IF_FOUND or answer.items):
                self.happened += 1
                self._stirring.stir()
            elif name in _CLAIMS:
                self._stirring.stir()
            return answer

        return watched

    @property
    def claims(self) -> frozenset[str]:
        """The calls with which a worker looks for work."""
        return _CLAIMS


def _queues(name: str, args: tuple[Any, ...]) -> Iterator[str]:
    if name == "create":
        yield from (new.queue for new in args[0])
    elif name == "commit":
        for checkpoint in args[0]:
            yield from (activity.queue for activity in checkpoint.activities)
            yield from (child.instance.queue for child in checkpoint.children)
