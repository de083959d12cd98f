"""The bench on which a law looks at a store: the contract's calls in short, and a look at all that is kept.

It adds nothing to what a store does and hides no answer but `Busy`, which means that one asks again; else it only
unpacks `Answer`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from durable.backends.contract import Backend
from durable.backends.records import (
    Accepted,
    ActivityOutcome,
    ActivityTask,
    Answer,
    Busy,
    Cancelled,
    Change,
    Checkpoint,
    Claimant,
    Closing,
    Created,
    Extended,
    Filter,
    Finding,
    HistoryRange,
    InstanceRef,
    InstanceView,
    Lease,
    Lost,
    Message,
    NewInstance,
    NewMessage,
    Overdue,
    Stats,
    Verdict,
    WorkflowTask,
)
from durable.testing.conformance.harness import StoreUnderTest
from durable.testing.conformance.specimens import activity, claimant, new, step, workflow_lease

Q = TypeVar("Q")
A = TypeVar("A")

MAX_BUSY = 5_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """All that can be seen of a store without taking anything."""

    views: tuple[InstanceView, ...]
    histories: tuple[tuple[bytes, ...], ...]
    stats: Stats


class Bench:
    """A store with the calls of the contract in short form."""

    def __init__(self, store: Backend, under_test: StoreUnderTest) -> None:
        self.store = store
        self.under_test = under_test
        self.lease_us = under_test.lease_us
        self.is_damaged = False

    async def reopen(self) -> None:
        """Close the store and open it again (only if it keeps its data)."""
        await self.store.close()
        self.store = await self.under_test.open()
        await self.store.migrate()

    # --- time

    async def now(self) -> int:
        """The store's time."""
        return (await self.store.get([])).now_us

    async def advance(self, us: int) -> None:
        """Let time pass."""
        await self.under_test.advance(us)

    async def outlive_lease(self) -> None:
        """Let so much time pass that every lease has run out."""
        await self.advance(self.lease_us)

    # --- the calls of clients

    async def create(self, *instances: NewInstance) -> Sequence[Any]:
        return await self._until_judged(self.store.create, instances)

    async def send(self, *messages: NewMessage) -> Sequence[Verdict]:
        return await self._until_judged(self.store.send, messages)

    async def change(self, *changes: Change) -> Sequence[Verdict]:
        return await self._until_judged(self.store.change, changes)

    async def view(self, instance_id: str, run_id: str | None = None) -> InstanceView:
        """A run that there is."""
        found = await self.look(instance_id, run_id)
        assert found is not None, f"there is no instance {instance_id!r} (run {run_id!r})"
        return found

    async def look(self, instance_id: str, run_id: str | None = None) -> InstanceView | None:
        """A run, if there is one."""
        return (await self.store.get([InstanceRef(instance_id=instance_id, run_id=run_id)])).items[0]

    # --- the calls of workers

    def claimant(self, worker_id: str = "w1", **fields: Any) -> Claimant:
        """A worker, with a token for one claim."""
        return claimant(worker_id, self.lease_us, **fields)

    async def claim_answer(
        self, worker_id: str = "w1", *, limit: int = 100, **fields: Any
    ) -> Answer[WorkflowTask | Overdue | Closing]:
        return await self.store.claim_workflow_tasks(self.claimant(worker_id, **fields), limit)

    async def claim(self, worker_id: str = "w1", *, limit: int = 100, **fields: Any) -> list[WorkflowTask]:
        """Claim runs; what else is handed out beside them is passed over."""
        items = (await self.claim_answer(worker_id, limit=limit, **fields)).items
        return [item for item in items if isinstance(item, WorkflowTask)]

    async def claim_one(self, instance_id: str, worker_id: str = "w1", **fields: Any) -> WorkflowTask:
        """Claim runs of which exactly one is ready, this one."""
        tasks = await self.claim(worker_id, **fields)
        assert [task.instance_id for task in tasks] == [instance_id]
        return tasks[0]

    async def claim_child(self, instance_id: str, worker_id: str = "w1") -> WorkflowTask:
        """Claim this run, whatever else is ready."""
        tasks = await self.claim(worker_id)
        return next(task for task in tasks if task.instance_id == instance_id)

    async def claim_overdue(self, worker_id: str = "w1", **fields: Any) -> list[Overdue]:
        items = (await self.claim_answer(worker_id, **fields)).items
        return [item for item in items if isinstance(item, Overdue)]

    async def claim_closings(self, worker_id: str = "w1", **fields: Any) -> list[Closing]:
        items = (await self.claim_answer(worker_id, **fields)).items
        return [item for item in items if isinstance(item, Closing)]

    async def claim_activities(
        self, worker_id: str = "w1", *, limit: int = 100, **fields: Any
    ) -> list[ActivityTask]:
        return list((await self.store.claim_activity_tasks(self.claimant(worker_id, **fields), limit)).items)

    async def claim_activity(self, worker_id: str = "w1", **fields: Any) -> ActivityTask:
        """Claim activities of which exactly one is ready."""
        (task,) = await self.claim_activities(worker_id, **fields)
        return task

    async def commit(self, *checkpoints: Checkpoint) -> Sequence[Verdict]:
        return await self._until_judged(self.store.commit, checkpoints)

    async def commit_until_judged(self, checkpoint: Checkpoint) -> Verdict:
        """Commit one."""
        (verdict,) = await self.commit(checkpoint)
        return verdict

    async def _until_judged(
        self, call: Callable[[Sequence[Q]], Awaitable[Answer[A]]], items: Sequence[Q]
    ) -> Sequence[A]:
        """`Busy` means: ask again."""
        verdicts = list((await call(items)).items)
        for _ in range(MAX_BUSY):
            busy = [n for n, verdict in enumerate(verdicts) if isinstance(verdict, Busy)]
            if not busy:
                break
            await asyncio.sleep(0.001)
            for n, verdict in zip(busy, (await call([items[n] for n in busy])).items, strict=True):
                verdicts[n] = verdict
        return verdicts

    async def finish(self, *outcomes: ActivityOutcome) -> Sequence[Verdict]:
        return await self._until_judged(self.store.finish_activities, outcomes)

    async def extend(self, *leases: Lease) -> Sequence[Extended | Cancelled | Lost]:
        return (await self.store.extend(leases)).items

    async def release(self, *leases: Lease) -> Sequence[Accepted | Lost | Busy]:
        return await self._until_judged(self.store.release, leases)

    async def history(self, instance_id: str, run_id: str, after: int = 0) -> tuple[bytes, ...]:
        """The events of a run."""
        wanted = HistoryRange(instance_id=instance_id, run_id=run_id, after=after)
        return (await self.store.read_history([wanted])).items[0].events

    # --- where a law begins

    async def start(self, instance_id: str = "a", run_id: str | None = None, **fields: Any) -> NewInstance:
        """A run that was just made, and is ready."""
        instance = new(instance_id, run_id, **fields)
        assert await self.create(instance) == [Created(run_id=instance.run_id)]
        return instance

    async def waiting(self, instance_id: str = "a", run_id: str | None = None, **fields: Any) -> Checkpoint:
        """A run that has taken its first step, is leased to nobody, and waits. ``fields`` are its checkpoint's."""
        first = step(await self.start(instance_id, run_id), b"waiting", **fields)
        (verdict,) = await self.commit(first)
        assert isinstance(verdict, Accepted), verdict
        return first

    async def scheduled(self, instance_id: str = "a", **fields: Any) -> Checkpoint:
        """A run that waits for its activity number 1."""
        return await self.waiting(instance_id, activities=(activity(1, **fields),))

    async def unread(self, instance_id: str) -> tuple[Message, ...]:
        """The unread messages of an instance of which one at least is unread. Claims it, and gives it back."""
        tasks = await self.claim("reader")
        await self.release(*(workflow_lease(task, "reader") for task in tasks))
        found = [task.messages for task in tasks if task.instance_id == instance_id]
        assert found, f"{instance_id!r} is not ready, so it has no unread message"
        return found[0]

    # --- all that is kept

    async def damage(self, kind: str, instance_id: str) -> None:
        """Break something by hand; see `StoreUnderTest.damage`."""
        self.is_damaged = True
        await self.under_test.wound(self.store, kind, instance_id)

    async def broken(self, *, repair: bool = False) -> list[Finding]:
        """What an audit finds, but for runs that may wait for a signal, of which a store sees nothing.

        These are the findings of I7 whose text says so.
        """
        findings = (await self.store.audit(repair=repair)).items
        return [each for each in findings if not (each.rule.startswith("I7 ") and "signal" in each.detail)]

    async def snapshot(self) -> Snapshot:
        """All runs, their histories, and the counts."""
        views = tuple((await self.store.find(Filter(limit=10_000))).items)
        ranges = [HistoryRange(instance_id=view.instance_id, run_id=view.run_id) for view in views]
        histories = tuple(part.events for part in (await self.store.read_history(ranges)).items)
        return Snapshot(views=views, histories=histories, stats=await self.store.stats())
