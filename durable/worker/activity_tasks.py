"""Activity tasks: run attempts, and tell how they ended: the run, if it is warm here, else the store.

Each attempt is a task of the worker's loop; plain functions run in a thread, those with ``executor="process"`` in a
process.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from durable.backends.records import (
    Absorbed,
    ActivityFinished,
    ActivityLease,
    ActivityOutcome,
    ActivityRef,
    ActivityRetry,
    ActivityTask,
)
from durable.core import messages
from durable.core.definition import ActivityDefinition
from durable.core.events import ActivityCompleted, ActivityFailed
from durable.core.failure import Failure, failure_of
from durable.errors import ActivityTimeout, BackendError, PayloadError, WorkerLost
from durable.primitives.attempt import current_attempt
from durable.worker.attempt import RunningAttempt
from durable.worker.processes import ResultRefused
from durable.worker.threads import Threads
from durable.worker.warm import LocalResult

if TYPE_CHECKING:
    from durable.worker.parts import Parts

MAX_DELIVERIES = 10
WAITING_PER_SLOT = 4
"""How many activities without a row may wait here for each attempt without one: that is young, and soon over."""
_log = logging.getLogger("durable")


class Interrupted(Exception):
    """The attempt was ended because its worker closes: it is no attempt, and is given back."""


class ActivityTasks:
    """The attempts that run on this worker; at most ``slots`` at a time."""

    def __init__(self, parts: Parts, slots: int) -> None:
        self._parts = parts
        self._slots = slots
        self._reserved = 0
        self._running: dict[ActivityRef, RunningAttempt] = {}
        self._young = 0
        """How many of them have no row."""
        self._waiting: dict[ActivityRef, ActivityTask] = {}
        """Activities without a row for which there is no slot yet, in order of arrival."""
        self._fading: set[RunningAttempt] = set()
        """Unwanted attempts that have not ended yet (a thread cannot be stopped), while their activity runs again."""
        self._threads = Threads()
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def free(self) -> int:
        """How many attempts may still be begun; below zero, if some wait."""
        return self._slots - self._reserved - len(self._running) - len(self._fading) - len(self._waiting)

    def reserve(self, numbers: Sequence[int]) -> Sequence[int]:
        """As many of these new activities as there are slots; each takes one until `start` or `unreserve`."""
        chosen = numbers[: max(0, self.free)]
        self._reserved += len(chosen)
        return chosen

    def reserve_rowless(self, count: int, *, at_once: bool) -> bool:
        """Reserve for so many activities without a row, all or none. Without ``at_once`` they may wait a little."""
        if count > self.free + (0 if at_once else WAITING_PER_SLOT * self._young):
            return False
        self._reserved += count
        return True

    def unreserve(self, count: int) -> None:
        self._reserved -= count
        if count:
            self._parts.activity_slot_free.set()

    def start(self, task: ActivityTask, *, reserved: bool = False, rowless: bool = False) -> None:
        """Begin an attempt. ``rowless``: the store does not know of it yet."""
        if reserved:
            self._reserved -= 1
        running = self._running.get(task.ref)
        if running is not None and running.unwanted:
            self._fading.add(running)
        elif running is not None:  # its lease ran out here: the one that runs goes on, under the new token
            running.item = replace(running.item, token=task.token, deliveries=task.deliveries)
            self._parts.leases.keep_activity(task.ref, task.token)
            return
        if rowless and len(self._running) + len(self._fading) >= self._slots:
            self._waiting[task.ref] = task
        else:
            self._begin(task, rowless=rowless)

    def _begin(self, task: ActivityTask, *, rowless: bool) -> None:
        definition = self._parts.registry.activities.get(task.name)
        attempt = RunningAttempt(self._parts, task, definition)
        attempt.rowless = rowless
        self._running[task.ref] = attempt
        self._idle.clear()
        if rowless:
            self._young += 1
        else:
            self._parts.leases.keep_activity(task.ref, task.token)
        attempt.task = asyncio.get_running_loop().create_task(
            self._attempt(attempt, definition), name=attempt.label
        )

    def has_row(self, ref: ActivityRef, token: str) -> None:
        """The store knows of this attempt now: its lease is to be renewed, and what it told may be stored."""
        leases = self._parts.leases
        waited = self._waiting.pop(ref, None)
        if waited is not None:  # for so long that it is better open to all
            self._parts.workflow_tasks.not_local(ref)
            self._parts.release_activity(waited)
            return
        leases.keep_activity(ref, token)
        attempt = self._running.get(ref)
        if attempt is None:
            leases.end_activity(ref)  # its outcome is on its way
            return
        self._young -= attempt.rowless
        attempt.rowless = False
        if attempt.unstored is not None:
            leases.heartbeat(ref, attempt.unstored)

    def cancel(self, ref: ActivityRef) -> None:
        """Nobody wants this attempt's result any more."""
        self._waiting.pop(ref, None)
        attempt = self._running.get(ref)
        if attempt is not None:
            attempt.cancel()

    async def drain(self, seconds: float) -> None:
        """Wait for the running attempts; those that take longer are interrupted and given back."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._idle.wait()
        self._waiting.clear()  # whoever goes on with their runs asks for them again
        for attempt in self.abandoned():
            attempt.interrupt()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1.0):
                await self._idle.wait()
        self._threads.close()

    def abandoned(self) -> list[RunningAttempt]:
        """Attempts that still run; after `drain`: those that ignored their interruption."""
        return [*self._running.values(), *self._fading]

    # --- one attempt ----------------------------------------------------------------------------------------------

    async def _attempt(self, attempt: RunningAttempt, definition: ActivityDefinition | None) -> None:
        outcome: ActivityOutcome | None = None
        try:
            outcome = await self._outcome(attempt, definition)
        except Interrupted:
            self._interrupted(attempt)
        except Exception as error:
            _log.exception("activity %s: the engine failed while running it", attempt.label)
            outcome = self._failed(attempt, error)
        finally:
            if attempt.opened is not None:
                await asyncio.shield(attempt.opened.rollback())
            attempt.task = None  # else the two would be a cycle for the garbage collector
            self._ended(attempt, told=outcome is None or attempt.unwanted)
            self._parts.activity_slot_free.set()
        if outcome is not None and not attempt.unwanted:
            self._tell(attempt, outcome)
        else:
            self._parts.workflow_tasks.not_local(attempt.ref)

    def _ended(self, attempt: RunningAttempt, *, told: bool) -> None:
        """``told``: there is nothing that the store has to be told."""
        if self._running.get(attempt.ref) is attempt:
            del self._running[attempt.ref]
            if told:
                self._parts.leases.drop_activity(attempt.ref)
            else:
                self._parts.leases.end_activity(attempt.ref)
        self._fading.discard(attempt)
        self._young -= attempt.rowless
        while self._waiting and len(self._running) + len(self._fading) < self._slots:
            self._begin(self._waiting.pop(next(iter(self._waiting))), rowless=True)
        if not self._running and not self._fading:
            self._idle.set()

    async def _outcome(
        self, attempt: RunningAttempt, definition: ActivityDefinition | None
    ) -> ActivityOutcome | None:
        over = self._not_to_be_run(attempt)
        if over is not None:
            # That nobody finished a parked attempt in time is this attempt's failure; the rest is the activity's.
            late = isinstance(over, ActivityTimeout) and over.kind == "timeout"
            return self._failed(attempt, over, final=not late)
        if definition is None:
            return self._failed(
                attempt, WorkerLost(f"no worker has activity {attempt.item.name!r}"), final=True
            )
        try:
            args, kwargs = self._parts.converter.decode_args(
                attempt.item.payload, definition.signature, f"activity {definition.name!r}"
            )
        except PayloadError as error:
            return self._failed(attempt, error, final=True)
        try:
            value = await self._called(attempt, definition, args, kwargs)
        except asyncio.CancelledError as error:
            return self._cancelled(attempt, error)
        except ResultRefused as refused:
            return self._failed(attempt, refused.error, final=True)
        except BaseException as error:
            return None if attempt.unwanted else self._failed(attempt, attempt.timed_out or error)
        if attempt.parked:
            return None
        outcome = self._completed(attempt, definition, value)
        return outcome if attempt.opened is None else await self._committed(attempt, outcome)

    async def _committed(self, attempt: RunningAttempt, outcome: ActivityOutcome) -> ActivityOutcome | None:
        """The activity wrote in a transaction: its result goes with it, or nothing does."""
        assert attempt.opened is not None
        if not isinstance(outcome, ActivityFinished) or outcome.kind != messages.ACTIVITY_COMPLETED:
            return outcome
        self._parts.workflow_tasks.not_local(attempt.ref)
        try:
            await attempt.opened.finish(outcome)
        except BackendError as error:
            if attempt.item.token != outcome.token:  # handed to us once more: so it was not committed
                raise Interrupted from error
            # Committed or not, nobody knows. If it was, the token is gone and this failure is not taken.
            return self._failed(attempt, error)
        return None

    def _not_to_be_run(self, attempt: RunningAttempt) -> Exception | None:
        task, options = attempt.item, attempt.options
        if task.expired:
            kind = "queue" if task.deliveries <= 1 and task.attempt == 1 else "timeout"
            return ActivityTimeout(f"activity {attempt.label}: nobody {_DID[kind]} it in time", kind)
        if options.at_most_once and task.deliveries > 1:
            return WorkerLost(
                f"activity {attempt.label}: its worker was lost, and at_most_once forbids another start"
            )
        if task.deliveries > MAX_DELIVERIES:
            return WorkerLost(
                f"activity {attempt.label} has killed {MAX_DELIVERIES} workers, or outlived their leases"
            )
        return None

    async def _called(
        self, attempt: RunningAttempt, definition: ActivityDefinition, args: list[Any], kwargs: dict[str, Any]
    ) -> Any:
        current_attempt.set(attempt)
        parts, item = self._parts, attempt.item
        parts.propagation.restore(attempt.headers)
        around = parts.hooks.around_activity(item.name, item.ref.instance_id, item.attempt, attempt.headers)
        try:
            with around:
                return await self._run(attempt, definition, args, kwargs)
        finally:
            attempt.end()

    async def _run(
        self, attempt: RunningAttempt, definition: ActivityDefinition, args: list[Any], kwargs: dict[str, Any]
    ) -> Any:
        if definition.executor == "process":  # its time begins when a process is free
            return await self._parts.processes.run(attempt, definition)
        attempt.begin()
        if definition.is_async:
            return await definition.fn(*args, **kwargs)
        return await self._in_thread(attempt, definition, args, kwargs)

    async def _in_thread(
        self, attempt: RunningAttempt, definition: ActivityDefinition, args: list[Any], kwargs: dict[str, Any]
    ) -> Any:
        attempt.in_thread = True
        context = contextvars.copy_context()
        return await self._threads.run(lambda: context.run(definition.fn, *args, **kwargs))

    # --- how it ended ---------------------------------------------------------------------------------------------

    def _completed(
        self, attempt: RunningAttempt, definition: ActivityDefinition, value: Any
    ) -> ActivityOutcome:
        what = f"result of activity {definition.name!r}"
        try:
            result = self._parts.converter.encode(value, definition.signature.result, what)
        except PayloadError as error:
            return self._failed(attempt, error, final=True)
        return ActivityFinished(
            ref=attempt.ref,
            token=attempt.item.token,
            kind=messages.ACTIVITY_COMPLETED,
            body=messages.completed_body(attempt.ref.number, result),
        )

    def _cancelled(self, attempt: RunningAttempt, error: asyncio.CancelledError) -> ActivityOutcome | None:
        if attempt.unwanted:
            return None
        if attempt.timed_out is not None:
            return self._failed(attempt, attempt.timed_out)
        if attempt.interrupted:
            raise Interrupted
        return self._failed(attempt, error)

    def _failed(
        self, attempt: RunningAttempt, error: BaseException, *, final: bool = False
    ) -> ActivityOutcome:
        failure = failure_of(error)
        delay = None if final else self._retry_delay(attempt, error, failure)
        if delay is not None:
            _log.info(
                "activity %s failed and is retried in %.1f s: %s", attempt.label, delay, failure.message
            )
            return ActivityRetry(
                ref=attempt.ref,
                token=attempt.item.token,
                delay_us=round(delay * 1e6),
                failure=self._parts.converter.seal(failure.to_text()),
            )
        return ActivityFinished(
            ref=attempt.ref,
            token=attempt.item.token,
            kind=messages.ACTIVITY_FAILED,
            body=messages.failed_body(attempt.ref.number, self._parts.converter.seal(failure.to_text())),
        )

    def _retry_delay(self, attempt: RunningAttempt, error: BaseException, failure: Failure) -> float | None:
        elapsed = (self._parts.clock.now_us() - attempt.item.scheduled_at_us) / 1e6
        return attempt.options.retry.next_delay_seconds(
            attempt.item.attempt, error, elapsed_seconds=elapsed, random=self._parts.random
        )

    def _interrupted(self, attempt: RunningAttempt) -> None:
        if attempt.options.at_most_once:
            lost = WorkerLost(
                f"activity {attempt.label}: its worker was closed, and at_most_once forbids another start"
            )
            self._parts.finish(self._failed(attempt, lost, final=True))
        else:
            self._once_stored(attempt, lambda: self._parts.release_activity(attempt.item))

    def _tell(self, attempt: RunningAttempt, outcome: ActivityOutcome) -> None:
        """The run, if it is warm here: result and next step are then one checkpoint. Else the store."""
        if isinstance(outcome, ActivityFinished):
            result = LocalResult(
                _input_of(outcome, self._parts.clock.now_us()),
                Absorbed(number=attempt.ref.number, token=attempt.item.token),
                outcome,
            )
            known = self._parts.workflow_tasks.finished(attempt.ref, result)
            if not known and not attempt.rowless:
                self._parts.finish(outcome)
        else:
            self._once_stored(attempt, lambda: self._hand_over(attempt, outcome))

    def _hand_over(self, attempt: RunningAttempt, outcome: ActivityOutcome) -> None:
        self._parts.workflow_tasks.not_local(attempt.ref)
        self._parts.finish(outcome)

    def _once_stored(self, attempt: RunningAttempt, then: Callable[[], None]) -> None:
        """Do this when the store has all that the next attempt needs: a row, and what the last heartbeat told."""
        if attempt.rowless or attempt.unstored is not None:
            self._parts.spawn(self._stored(attempt, then))
        else:
            then()

    async def _stored(self, attempt: RunningAttempt, then: Callable[[], None]) -> None:
        if not await self._parts.local.row(attempt):
            return  # its run is not here any more: where it goes on, the activity is run again
        if attempt.unstored is not None:
            await self._store_details(attempt)
        then()

    async def _store_details(self, attempt: RunningAttempt) -> None:
        """Store what the last heartbeat told, for the next attempt; go on even if that fails."""
        lease = ActivityLease(
            ref=attempt.ref, token=attempt.item.token, lease_us=self._parts.lease_us, details=attempt.unstored
        )
        with contextlib.suppress(BackendError):
            await self._parts.store.extend([lease])


_DID = {"queue": "claimed", "timeout": "finished"}


def _input_of(outcome: ActivityFinished, now_us: int) -> ActivityCompleted | ActivityFailed:
    made = messages.input_of(outcome.kind, outcome.body, "", now_us)
    assert isinstance(made, ActivityCompleted | ActivityFailed)
    return made
