"""Claiming: two loops that ask the store for work whenever there is room for it, and sleep in between.

They sleep until the next known wake-up time, a hint from the bell, or the poll interval (less for a while after work
was found, where no bell rings for what other processes write). Polling alone is correct.
A claim that failed is repeated with its token: if it was carried out and only its reply was lost, it gets the same once
more, instead of leaving it to a lease that nobody works under.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Coroutine, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from durable.backends.records import ActivityTask, Answer, Closing, Overdue, WorkflowTask
from durable.errors import BackendError

if TYPE_CHECKING:
    from durable.worker.parts import Parts
    from durable.worker.upkeep import Upkeep

RETRY_MOST_SECONDS = 2.0
AGAIN_SECONDS = 0.02
"""After work was found, where nothing but looking tells of more. While there is none it doubles, up to the interval."""
T = TypeVar("T")
_log = logging.getLogger("durable")


class Claims:
    """The loops that claim. ``poll_seconds`` is the longest sleep."""

    def __init__(self, parts: Parts, upkeep: Upkeep, *, max_workflow_tasks: int, poll_seconds: float) -> None:
        self._parts = parts
        self._upkeep = upkeep
        self._max_workflow_tasks = max_workflow_tasks
        self._alarm: asyncio.TimerHandle | None = None
        self._alarm_us = 0
        self._workflows = parts.store.bell.listen("workflow")
        self._activities = parts.store.bell.listen("activity")
        bell = parts.store.bell
        self._workflow_pace = Pace(poll_seconds, bell.hears_others)
        self._activity_pace = Pace(poll_seconds * (2 if "activity" in bell.covered else 1), bell.hears_others)

    def expect(self, at_us: int) -> None:
        """A run will be ready at this time: claim then, and not only at the next poll."""
        if self._alarm is not None:
            if self._alarm_us <= at_us:
                return
            self._alarm.cancel()
        self._alarm_us = at_us
        delay = max(0.0, (at_us - self._parts.clock.now_us()) / 1e6)
        self._alarm = asyncio.get_running_loop().call_later(delay, self._ring)

    def _ring(self) -> None:
        self._alarm = None
        self._workflows.hear()

    def close(self) -> None:
        """Listen no more."""
        if self._alarm is not None:
            self._alarm.cancel()
        self._workflows.close()
        self._activities.close()

    async def claim_workflow_tasks(self) -> None:
        """Until cancelled. An answer is never thrown away: what was claimed is worked on."""
        parts = self._parts
        trouble = 0.0
        claimant = parts.claimant()
        while True:
            room = self._max_workflow_tasks - parts.workflow_tasks.working
            if room <= 0:
                await _cleared(parts.slot_free)
                continue
            try:
                answer = await self._kept(parts.store.claim_workflow_tasks(claimant, room))
                parts.clock.hear(answer.now_us)
                await self._hand_out(answer.items)
                trouble, claimant = 0.0, parts.claimant()
            except Exception as error:
                trouble = await _pause(trouble, error)
                continue
            if answer.next_wake_us is not None:
                self.expect(answer.next_wake_us)
            seconds = self._workflow_pace.after(len(answer.items))
            if len(answer.items) < room:
                await self._workflows.wait(seconds)
            else:
                await asyncio.sleep(0)

    async def claim_activity_tasks(self) -> None:
        """Until cancelled."""
        parts = self._parts
        trouble = 0.0
        claimant = parts.claimant()
        while True:
            room = parts.activities.free
            if room <= 0:
                await _cleared(parts.activity_slot_free)
                continue
            try:
                answer = await self._kept(parts.store.claim_activity_tasks(claimant, room))
                trouble, claimant = 0.0, parts.claimant()
            except Exception as error:
                trouble = await _pause(trouble, error)
                continue
            parts.clock.hear(answer.now_us)
            for task in answer.items:
                parts.activities.start(task)
            seconds = self._activity_pace.after(len(answer.items))
            if len(answer.items) < room:
                await self._activities.wait(self._until(answer.next_wake_us, seconds))

    async def _hand_out(self, items: Sequence[WorkflowTask | Overdue | Closing]) -> None:
        tasks = [item for item in items if isinstance(item, WorkflowTask)]
        if tasks:
            await self._parts.workflow_tasks.take(tasks)
        for item in items:
            if isinstance(item, Overdue):
                self._upkeep.end_overdue(item)
            elif isinstance(item, Closing):
                self._parts.spawn(self._upkeep.close_children(item))

    async def _kept(self, claim: Coroutine[Any, Any, Answer[T]]) -> Answer[T]:
        """The answer of a claim; one that comes after this loop was told to stop is given back at once."""
        asked = asyncio.ensure_future(claim)
        try:
            return await asyncio.shield(asked)
        except asyncio.CancelledError:
            with contextlib.suppress(BackendError):
                self._give_back((await asked).items)
            raise

    def _give_back(self, items: Sequence[Any]) -> None:
        self._parts.workflow_tasks.give_back(item for item in items if isinstance(item, WorkflowTask))
        for item in items:
            if isinstance(item, ActivityTask):
                self._parts.release_activity(item)

    def _until(self, wake_us: int | None, seconds: float) -> float:
        if wake_us is None:
            return seconds
        return min(seconds, max(0.0, (wake_us - self._parts.clock.now_us()) / 1e6))


class Pace:
    """How long a loop sleeps until it looks again, whatever else may wake it before."""

    def __init__(self, poll_seconds: float, hears_others: bool) -> None:
        self._poll_seconds = poll_seconds
        self._shortest_seconds = poll_seconds if hears_others else min(AGAIN_SECONDS, poll_seconds)
        self._seconds = poll_seconds

    def after(self, found: int) -> float:
        """In seconds, after a look that found so much."""
        self._seconds = self._shortest_seconds if found else min(2 * self._seconds, self._poll_seconds)
        return self._seconds


async def _cleared(event: asyncio.Event) -> None:
    event.clear()
    await event.wait()


async def _pause(trouble: float, error: Exception) -> float:
    """Wait a little longer after each failure in a row."""
    trouble = min(max(0.05, trouble * 2), RETRY_MOST_SECONDS)
    foreseen = isinstance(error, BackendError)
    _log.log(
        logging.WARNING if foreseen else logging.ERROR, "claiming failed, trying again in %.2f s: %s", trouble, error,
        exc_info=None if foreseen else error,
    )  # fmt: skip
    await asyncio.sleep(trouble * random.uniform(0.5, 1.0))
    return trouble
