"""What the parts of a worker share: the store, what is registered, the clock, the ways to write."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from durable.backends.batches import Batches
from durable.backends.clock import StoreClock
from durable.backends.contract import Backend
from durable.backends.records import (
    ActivityFinished,
    ActivityLease,
    ActivityOutcome,
    ActivityTask,
    Change,
    Checkpoint,
    Claimant,
    Definition,
    Head,
    HeldLease,
    HistoryRange,
    HistorySlice,
    Lease,
    Refused,
    Verdict,
    WorkflowLease,
    WorkflowTask,
)
from durable.core import messages
from durable.core.context import RunIdentity
from durable.core.definition import WorkflowDefinition, build_of
from durable.core.events import Event
from durable.core.failure import failure_of
from durable.core.hooks import HookList, Propagation
from durable.core.ids import first_token, is_open, new_token
from durable.core.payload import Converter
from durable.core.registry import Registry
from durable.core.release import RELEASE
from durable.core.replay import Run, load
from durable.core.watchdog import Watchdog
from durable.errors import BackendError, PayloadError

if TYPE_CHECKING:
    from durable.worker.activity_tasks import ActivityTasks
    from durable.worker.claims import Claims
    from durable.worker.leases import Leases
    from durable.worker.local_activities import LocalActivities
    from durable.worker.processes import Processes
    from durable.worker.workflow_tasks import WorkflowTasks

_log = logging.getLogger("durable")


class Reads:
    """Histories, read in one call for a whole batch; again, until the store answers."""

    def __init__(self, store: Backend) -> None:
        self._store = store

    async def read(self, ranges: Sequence[HistoryRange]) -> Sequence[HistorySlice]:
        delay = 0.05
        while True:
            try:
                return (await self._store.read_history(ranges)).items
            except BackendError as error:
                _log.warning("histories could not be read, trying again in %.2f s: %s", delay, error)
            await asyncio.sleep(delay)
            delay = min(delay * 2, 2.0)


class Parts:
    """One worker's wiring. ``build`` overrides the hash of each definition's source."""

    workflow_tasks: WorkflowTasks
    activities: ActivityTasks
    leases: Leases
    local: LocalActivities
    claims: Claims
    processes: Processes

    def __init__(
        self,
        *,
        client: Any,
        store: Backend,
        clock: StoreClock,
        converter: Converter,
        registry: Registry,
        known: Mapping[str, type[BaseException]],
        worker_id: str,
        queues: tuple[str, ...],
        lease_us: int,
        build: str | None,
        propagation: Propagation,
        hooks: HookList,
    ) -> None:
        self.propagation = propagation
        self.hooks = hooks
        self.client = client
        self.store = store
        self.clock = clock
        self.converter = converter
        self.registry = registry
        self.known = known
        self.worker_id = worker_id
        self.queues = queues
        self.lease_us = lease_us
        self.build = build
        self.watchdog = Watchdog()
        self.watchdog.start()
        self.reads = Reads(store)
        self.commits: Batches[Checkpoint, Verdict] = Batches(store.commit, size_of=_size_of)
        self._finishes: Batches[ActivityOutcome, Verdict] = Batches(store.finish_activities)
        self._changes: Batches[Change, Verdict] = Batches(store.change)
        self._releases: Batches[Lease, Any] = Batches(store.release)
        self.slot_free = asyncio.Event()
        self.activity_slot_free = asyncio.Event()
        self.draining = False
        self.is_outdated = False  # it has met what a newer release wrote
        self.random: Callable[[], float] = (
            random.random
        )  # spreads retries; a test environment does not want that
        self._tasks: set[asyncio.Task[None]] = set()
        self.learn()

    # --- who we are -----------------------------------------------------------------------------------------------

    def claimant(self, lease_us: int | None = None) -> Claimant:
        """This worker, with a new token for the attempts that the claim hands out."""
        return Claimant(
            worker_id=self.worker_id,
            token=new_token(),
            lease_us=lease_us or self.lease_us,
            queues=self.queues,
            workflows=self._definitions,
            activities=tuple(self.registry.activities),
        )

    def learn(self) -> None:
        """Claim what is registered now; again after something was added."""
        self._definitions = tuple(
            Definition(workflow=d.name, version=d.version, build=self.build_of(d))
            for d in self.registry.workflows.values()
        )

    def held_lease(self) -> HeldLease:
        return HeldLease(worker_id=self.worker_id, token=new_token(), lease_us=self.lease_us)

    def build_of(self, definition: WorkflowDefinition) -> str:
        """Tells this code from other code. The engine is code too: what stalled under one release, another tries."""
        return f"{self.build or build_of(definition.fn)} on {RELEASE}"

    def can_run(self, activity: str, queue: str) -> bool:
        """Whether this worker takes activities of this name from this queue, now."""
        return not self.draining and activity in self.registry.activities and queue in self.queues

    def load(
        self, workflow: str, version: str, identity: RunIdentity, head: Head, history: Sequence[Event]
    ) -> Run:
        """A run that has gone through ``history`` up to ``head``, watched. Raises like `durable.core.replay.load`."""
        definition = self.registry.workflow(workflow, version)
        assert definition is not None, "a claim names the definitions that the worker has"
        return load(
            definition,
            identity,
            history,
            converter=self.converter,
            known=self.known,
            propagation=self.propagation,
            watchdog=self.watchdog,
            begun=head.token != first_token(identity.run_id),
            open_ended=is_open(head.token),
        )

    # --- ways to write --------------------------------------------------------------------------------------------

    async def finished(self, outcome: ActivityOutcome) -> Verdict:
        return (await self._finishes.submit(outcome))[0]

    def finish(self, outcome: ActivityOutcome, *, is_refusal: bool = False) -> None:
        """Tell the store how an attempt ended. What the store cannot keep is a failure of the activity.

        Else its lease would run out, and what was done would be done again, to be refused again.
        """

        def told(future: asyncio.Future[tuple[Verdict, int]]) -> None:
            refusal = None if is_refusal else _refusal(future)
            if refusal is None:
                self.leases.told(outcome.ref, outcome.token)
            else:
                self.finish(self._refused(outcome, refusal), is_refusal=True)

        self._finishes.submit(outcome).add_done_callback(told)

    def _refused(self, outcome: ActivityOutcome, reason: str) -> ActivityFinished:
        ref = outcome.ref
        what = f"activity {ref.number} of instance {ref.instance_id!r}"
        failure = failure_of(PayloadError(f"{what}: the store cannot keep what came of it: {reason}"))
        body = messages.failed_body(ref.number, self.converter.seal(failure.to_text()))
        return ActivityFinished(ref=ref, token=outcome.token, kind=messages.ACTIVITY_FAILED, body=body)

    def change(self, change: Change) -> None:
        self._changes.submit(change).add_done_callback(_retrieve)

    def release_activity(self, task: ActivityTask) -> None:
        self._releases.submit(ActivityLease(ref=task.ref, token=task.token)).add_done_callback(_retrieve)

    def release_run(self, task: WorkflowTask) -> None:
        lease = WorkflowLease(instance_id=task.instance_id, run_id=task.run_id, worker_id=self.worker_id)
        self._releases.submit(lease).add_done_callback(_retrieve)

    def release(self, leases: Sequence[Lease]) -> None:
        for lease in leases:
            self._releases.submit(lease).add_done_callback(_retrieve)

    async def written(self) -> None:
        """Wait until all that was handed over has been written."""
        while self._tasks:
            await asyncio.wait(self._tasks)
        for batches in (self.commits, self._finishes, self._changes, self._releases):
            await batches.idle()

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run something beside, kept alive until it is done."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _size_of(checkpoint: Checkpoint) -> int:
    return sum(map(len, checkpoint.events)) + sum(len(a.payload) for a in checkpoint.activities)


def _refusal(future: asyncio.Future[tuple[Verdict, int]]) -> str | None:
    """Why the store cannot keep it, if it cannot."""
    if future.cancelled():
        return None
    if (error := future.exception()) is not None:
        return f"{type(error).__name__}: {error}"
    verdict, _ = future.result()
    return verdict.reason if isinstance(verdict, Refused) else None


def _retrieve(future: asyncio.Future[Any]) -> None:
    """A failure is retried by `Batches` for ever; what remains was logged there."""
    if not future.cancelled():
        future.exception()
