"""One running attempt: its time limits, heartbeats, cancellation; what `durable.heartbeat()` and others reach."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from durable.backends.contract import ActivityTransaction
from durable.backends.records import Accepted, ActivityParked, ActivityTask, Paused
from durable.client.client import in_transaction
from durable.core.definition import ActivityDefinition, ActivityOptions
from durable.core.hooks import headers_of
from durable.core.ids import new_token
from durable.errors import ActivityTimeout, BackendError, PayloadError
from durable.primitives.attempt import ActivityInfo
from durable.primitives.info import time_of

if TYPE_CHECKING:
    from durable.worker.parts import Parts


class RunningAttempt:
    """``timed_out``: a limit ran out; ``unwanted``: cancelled or lost; ``interrupted``: the worker closes.

    ``rowless``: the store does not know of it yet (`durable.worker.local_activities`).
    """

    def __init__(self, parts: Parts, item: ActivityTask, definition: ActivityDefinition | None) -> None:
        self._parts = parts
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self.item = item
        self.ref = item.ref
        self.definition = definition
        self.options = _options_of(item)
        self.headers = headers_of(item.options)
        self.label = f"{item.name!r} ({item.ref.number}) of instance {item.ref.instance_id!r}"
        self.task: asyncio.Task[None] | None = None
        self.in_thread = False
        self.timed_out: ActivityTimeout | None = None
        self.unwanted = False
        self.rowless = False
        self.interrupted = False
        self.parked = False
        self.opened: ActivityTransaction | None = None
        self._parking: asyncio.Future[None] | None = None
        self._begun = False
        self._end: asyncio.TimerHandle | None = None
        self._silence: asyncio.TimerHandle | None = None
        self._deadline_us: int | None = None
        self._last = item.details

    @property
    def unstored(self) -> str | None:
        """What the last heartbeat of this very attempt told; it may not have reached the store yet."""
        return self._last if self._last is not self.item.details else None

    @property
    def timeout_us(self) -> int | None:
        limit = self.options.timeout_seconds
        return None if limit is None else round(limit * 1e6)

    # --- ending it ------------------------------------------------------------------------------------------------

    def cancel(self) -> None:
        """Nobody wants the result any more."""
        self.unwanted = True
        self._stop()

    def interrupt(self) -> None:
        """The worker closes."""
        self.interrupted = True
        self._stop()

    def _expire(self, kind: str, seconds: float) -> None:
        word = {"timeout": "took longer than", "heartbeat": "sent no heartbeat for"}[kind]
        self.timed_out = ActivityTimeout(f"activity {self.label} {word} {seconds} s", kind)
        self._stop()

    def _stop(self) -> None:
        if self.task is not None:
            self.task.cancel()

    def begin(self) -> None:
        """The function is about to be called: its time begins. `end` has to follow."""
        if self._begun:
            return
        self._begun = True
        limit = self.options.timeout_seconds
        if limit is not None:
            self._deadline_us = self._parts.clock.now_us() + round(limit * 1e6)
            self._end = self._loop.call_later(limit, self._expire, "timeout", limit)
        self._listen()

    def end(self) -> None:
        """The function has returned or raised: nothing is limited any more. Harmless if it was never called."""
        for handle in (self._end, self._silence):
            if handle is not None:
                handle.cancel()

    def _listen(self) -> None:
        """Begin to wait for the next heartbeat."""
        limit = self.options.heartbeat_timeout_seconds
        if self._silence is not None:
            self._silence.cancel()
        if limit is not None:
            self._silence = self._loop.call_later(limit, self._expire, "heartbeat", limit)

    # --- what the function may call ---------------------------------------------------------------------------------

    @property
    def info(self) -> ActivityInfo:
        item = self.item
        return ActivityInfo(
            attempt=item.attempt,
            instance_id=item.ref.instance_id,
            run_id=item.ref.run_id,
            task_id=f"{item.ref.run_id}/{item.ref.number}",
            name=item.name,
            workflow=item.workflow,
            queue=item.queue,
            deadline=None if self._deadline_us is None else time_of(self._deadline_us),
            scheduled_at=time_of(item.scheduled_at_us),
            last_heartbeat=self._last_heartbeat(),
            headers=self.headers,
            client=self._parts.client,
        )

    def _last_heartbeat(self) -> Any:
        if self._last is None:
            return None
        try:
            return self._parts.converter.decode(self._last, Any, "heartbeat details")
        except PayloadError:
            return None

    def heartbeat(self, details: Any) -> None:
        if self.unwanted or self.timed_out is not None or self.interrupted:
            raise asyncio.CancelledError(f"activity {self.label} was cancelled")
        self.beat(self._parts.converter.encode(details, Any, "heartbeat details"))

    def beat(self, encoded: str) -> None:
        """A heartbeat, from whatever thread."""
        self._last = encoded
        if threading.get_ident() == self._thread:
            self._beaten(encoded)
        else:
            self._loop.call_soon_threadsafe(self._beaten, encoded)

    def _beaten(self, encoded: str) -> None:
        self._listen()
        self._parts.leases.heartbeat(self.ref, encoded)

    def complete_later(self) -> Any:
        if threading.get_ident() == self._thread:
            return self._park()
        return asyncio.run_coroutine_threadsafe(self._park(), self._loop).result()

    async def _park(self) -> str:
        """The token, once the store knows it: whoever is given it may finish the activity at once."""
        if self._parking is None:
            self._parking = asyncio.ensure_future(self._parked_in_store(new_token()))
        await asyncio.shield(self._parking)
        return f"{self.ref.run_id}.{self.ref.number}.{self.item.token}.{self.ref.instance_id}"

    async def _own_row(self) -> None:
        """Wait until the store knows of this attempt."""
        if not await self._parts.local.row(self):
            self.unwanted = True
            raise asyncio.CancelledError(f"activity {self.label} was cancelled")

    async def _parked_in_store(self, token: str) -> None:
        await self._own_row()
        verdict = await self._parts.finished(
            ActivityParked(ref=self.ref, token=self.item.token, new_token=token, timeout_us=self.timeout_us)
        )
        if not isinstance(verdict, Accepted | Paused):
            self.unwanted = True
            raise asyncio.CancelledError(f"activity {self.label} was cancelled")
        self.parked = True
        self.item = replace(self.item, token=token)
        self._parts.leases.drop_activity(self.ref)
        self._parts.workflow_tasks.not_local(self.ref)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Any]:
        if self.in_thread or self.opened is not None:
            why = "is for async activities" if self.in_thread else "was opened by this attempt already"
            raise RuntimeError(f"activity {self.label}: durable.transaction() {why}")
        store: Any = self._parts.store
        if not hasattr(store, "begin"):
            raise BackendError(f"{store.url} has no transactions that an activity could write in")
        await self._own_row()
        self.opened = await self._transaction_begun(store)
        own = in_transaction.set(True)  # beyond the block: the lock is held until the function returns
        try:
            yield self.opened.connection
        except BaseException:
            in_transaction.reset(own)
            await asyncio.shield(self.opened.rollback())
            raise

    async def _transaction_begun(self, store: Any) -> Any:
        """Begin it with our token; anew, if meanwhile our lease ran out and the task was handed to us once more."""
        while True:
            token = self.item.token
            try:
                return await store.begin(self.ref, token)
            except BackendError:
                if token == self.item.token:
                    raise


def _options_of(task: ActivityTask) -> ActivityOptions:
    try:
        return ActivityOptions.from_text(task.options)
    except (ValueError, KeyError, TypeError):
        return ActivityOptions()
