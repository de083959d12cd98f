"""Waiting for results: one look-up serves all handles of a client that wait.

A run is looked at when somebody begins to wait for it, when the bell says that its instance had a run that ended, and
again and again after growing times, up to the poll interval. Not whenever any run ends: a thousand that wait would
look a thousand times at each other. A worker of the same client that has written the end of a run tells it by hand,
and nothing is looked at (`Waiting.told`).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Collection, Iterator
from heapq import heappop, heappush
from itertools import count
from typing import NamedTuple

from durable.backends.contract import Backend
from durable.backends.records import CLOSED_STATES, InstanceRef, InstanceView, State
from durable.backends.wakeup import Listener
from durable.client.nearby import Nearby
from durable.errors import BackendError

FIRST_POLL_SECONDS = 0.05
FIRST_POLL_IF_HEARD_SECONDS = 0.5
"""Where the bell rings for other processes, too, a look is for what it has missed."""
MAX_UNHEARD = 10_000
LINGER_SECONDS = 1.0
"""How long the bell is listened to when nobody waits any more: soon somebody may again."""


class Ending(NamedTuple):
    """How a run ended, as far as its result goes; fields as in `InstanceView`."""

    state: State
    result: str | None
    failure: str | None
    next_run_id: str | None


Future = asyncio.Future[Ending | None]


class _Poll(NamedTuple):
    """When a run is looked at next, whatever the bell says. ``number`` decides between equal times."""

    at: float
    number: int
    ref: InstanceRef
    after_seconds: float


class Waiting:
    """Runs that somebody waits for."""

    def __init__(self, store: Backend, poll_seconds: float, nearby: Collection[Nearby]) -> None:
        self._store = store
        self._poll_seconds = poll_seconds
        self._nearby = nearby
        self._futures: dict[str, dict[InstanceRef, set[Future]]] = {}
        self._polls: list[_Poll] = []
        self._numbers = count()
        self._wanted: dict[InstanceRef, None] = {}
        """What the next look-up is to ask for."""
        self._unheard: set[str] = set()
        """Instances that were made while the bell was listened to, and of which it has said nothing yet: they run."""
        self._listener: Listener | None = None
        self._task: asyncio.Task[None] | None = None

    async def closed(self, ref: InstanceRef) -> Ending | None:
        """How the run ended, once it has; ``None`` if there is no such run."""
        loop = asyncio.get_running_loop()
        future: Future = loop.create_future()
        refs = self._futures.setdefault(ref.instance_id, {})
        if ref not in refs:
            self._poll_after(ref, self._first_poll())
        refs.setdefault(ref, set()).add(future)
        if ref.instance_id not in self._unheard:
            self._wanted[ref] = None
        if self._listener is None:
            self._listener = self._store.bell.listen("closed", concerns=self._concerns)
            self._task = loop.create_task(self._look(self._listener))
        elif self._wanted:
            self._listener.hear(())
        try:
            return await future
        finally:
            self._forget(ref, future)

    def born(self, instance_id: str) -> None:
        """This instance was made just now: there is no need to look whether it has ended, before the bell says so."""
        if self._listener is not None and len(self._unheard) < MAX_UNHEARD:
            self._unheard.add(instance_id)

    def told(self, instance_id: str, run_id: str, ending: Ending) -> None:
        """A worker of this client has written the end of a run: that is in the store."""
        self._unheard.discard(instance_id)
        if instance_id in self._futures:
            self._settle(InstanceRef(instance_id=instance_id, run_id=run_id), ending)

    def look(self, instance_id: str) -> None:
        """A worker of this client was about to end this instance, and has not: it may have ended otherwise."""
        if instance_id in self._futures and self._listener is not None:
            self._listener.hear((instance_id,))

    async def close(self) -> None:
        """Stop looking; those who still wait are cancelled."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        for future in self._all():
            future.cancel()

    def _all(self) -> Iterator[Future]:
        for refs in list(self._futures.values()):
            for futures in list(refs.values()):
                yield from list(futures)

    def _forget(self, ref: InstanceRef, future: Future) -> None:
        refs = self._futures.get(ref.instance_id, {})
        waiting = refs.get(ref, set())
        waiting.discard(future)
        if not waiting:
            refs.pop(ref, None)
        if not refs:
            self._futures.pop(ref.instance_id, None)

    def _poll_after(self, ref: InstanceRef, seconds: float) -> None:
        at = asyncio.get_running_loop().time() + seconds
        heappush(self._polls, _Poll(at, next(self._numbers), ref, seconds))

    # --- looking --------------------------------------------------------------------------------------------------

    async def _look(self, listener: Listener) -> None:
        rang = True
        try:
            while rang or self._futures:
                self._poll()
                asked = [ref for ref in self._wanted if self._is_awaited(ref)]
                self._wanted = {}
                if asked:
                    # If the store does not answer, they are looked at when they are polled next.
                    with contextlib.suppress(BackendError):
                        self._looked(asked, (await self._store.get(asked)).items)
                rang = await listener.wait(self._until_poll())
        except Exception as error:
            self._fail(error)
        finally:
            listener.close()
            self._listener = self._task = None
            self._polls.clear()
            self._wanted.clear()
            self._unheard.clear()

    def _is_awaited(self, ref: InstanceRef) -> bool:
        return ref in self._futures.get(ref.instance_id, ())

    def _poll(self) -> None:
        now = asyncio.get_running_loop().time()
        while self._polls and self._polls[0].at <= now:
            poll = heappop(self._polls)
            if self._is_awaited(poll.ref):
                self._wanted[poll.ref] = None
                self._poll_after(poll.ref, min(poll.after_seconds * 2, self._poll_seconds))

    def _until_poll(self) -> float:
        if self._wanted:
            return 0.0
        seconds = LINGER_SECONDS
        if self._futures:
            at = self._polls[0].at if self._polls else 0.0
            seconds = max(0.0, at - asyncio.get_running_loop().time())
        # Who begins to wait meanwhile wakes nobody up: without a bell, he would not be looked at before this is over.
        return seconds if self._store.bell.hears_others else min(seconds, self._first_poll())

    def _first_poll(self) -> float:
        heard = self._store.bell.hears_others
        return FIRST_POLL_IF_HEARD_SECONDS if heard else min(FIRST_POLL_SECONDS, self._poll_seconds)

    def _concerns(self, ids: Collection[str] | None) -> bool:
        """The bell rings for runs that ended: which of them are to be looked at, and whether there are any."""
        if ids is None:
            self._unheard.clear()
        else:
            self._unheard.difference_update(ids)
        for instance_id in self._futures if ids is None else ids:
            for ref in self._futures.get(instance_id, ()):
                if not any(worker.is_ending(ref.run_id) for worker in self._nearby):
                    self._wanted[ref] = None
        return bool(self._wanted)

    def _looked(self, refs: Collection[InstanceRef], views: Collection[InstanceView | None]) -> None:
        for ref, view in zip(refs, views, strict=True):
            if view is None:
                self._settle(ref, None)
            elif view.state in CLOSED_STATES:
                self._settle(ref, Ending(view.state, view.result, view.failure, view.next_run_id))

    def _settle(self, ref: InstanceRef, ending: Ending | None) -> None:
        refs = self._futures.get(ref.instance_id, {})
        for future in refs.pop(ref, ()):
            if not future.done():
                future.set_result(ending)
        if not refs:
            self._futures.pop(ref.instance_id, None)

    def _fail(self, error: Exception) -> None:
        for future in self._all():
            if not future.done():
                future.set_exception(error)
        self._futures.clear()
