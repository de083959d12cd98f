"""Laws of many at once: claims, leases, outcomes, checkpoints, messages and pauses of the same few runs, in no order.

The other laws know what comes after what. Here that is left to the store, and what must hold in any order is counted:
nothing is lost, nothing is done twice. Time stands still, so no lease runs out, and each worker that holds something
may say so until it has given it back (I6, I9, I14, I15).
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from random import Random

import pytest

from durable.backends.records import (
    Absorbed,
    Accepted,
    ActivityLease,
    ActivityTask,
    Checkpoint,
    Extended,
    InstanceRef,
    Message,
    NewActivity,
    Pause,
    Paused,
    Resume,
    WorkflowTask,
)
from durable.testing.conformance.bench import Bench
from durable.testing.conformance.laws import Laws
from durable.testing.conformance.specimens import (
    activity,
    activity_lease,
    activity_ref,
    finished,
    fresh,
    held,
    message,
    step,
    workflow_lease,
)

INSTANCES = ("a", "b", "c", "d")
FIRST_ACTIVITIES, LATER_ACTIVITIES = 5, 8
SIGNALS = 12
"""To each instance."""
ROUNDS = 5_000
Task = tuple[str, int]
"""An instance and the number of an activity."""


class CrowdLaws(Laws):
    """All calls of workers and of clients, beside each other."""

    @pytest.mark.parametrize("seed", range(4))
    async def test_among_many_at_once_nothing_is_lost_and_nothing_is_done_twice(
        self, bench: Bench, seed: int
    ) -> None:
        crowd = Crowd(bench, Random(seed))
        await crowd.begin()
        await crowd.work()
        crowd.check()


class Crowd:
    """Some runs, those who work on them, and what they were told."""

    def __init__(self, bench: Bench, random: Random) -> None:
        self._bench = bench
        self._random = random
        self._last_number = dict.fromkeys(INSTANCES, FIRST_ACTIVITIES)
        self._scheduled: set[Task] = set()
        self._finished: Counter[Task] = Counter()
        self._absorbed: Counter[Task] = Counter()
        self._withdrawn: set[Task] = set()
        """Also those of which the checkpoint is on its way: whoever holds one may be told that it is gone."""
        self._sent: set[tuple[str, str]] = set()
        self._read: dict[str, list[Message]] = {name: [] for name in INSTANCES}

    async def begin(self) -> None:
        """The runs, with their first activities."""
        for name in INSTANCES:
            numbers = range(1, FIRST_ACTIVITIES + 1)
            await self._bench.waiting(name, activities=tuple(map(activity, numbers)))
            self._scheduled |= {(name, number) for number in numbers}

    async def work(self) -> None:
        """Until all that was asked for is done, and all that was said is read."""
        pauses = asyncio.create_task(self._in_rounds(self._pause, lambda: False))
        async with asyncio.TaskGroup() as workers:
            for name in INSTANCES:
                workers.create_task(self._send(name))
            for n in range(3):
                workers.create_task(self._in_rounds(partial(self._do_activities, f"a{n}"), self._is_done))
            for n in range(2):
                workers.create_task(self._in_rounds(partial(self._do_runs, f"w{n}"), self._is_done))
        pauses.cancel()
        with suppress(asyncio.CancelledError):
            await pauses

    async def _in_rounds(self, work: Callable[[], Awaitable[None]], is_over: Callable[[], bool]) -> None:
        for _ in range(ROUNDS):
            if is_over():
                return
            await work()
            await asyncio.sleep(0)

    def _is_done(self) -> bool:
        return (
            all(number >= FIRST_ACTIVITIES + LATER_ACTIVITIES for number in self._last_number.values())
            and self._scheduled == {*self._finished, *self._absorbed, *self._withdrawn}
            and len(self._sent) == SIGNALS * len(INSTANCES)
            and sum(map(len, self._read.values())) >= len(self._sent) + len(self._finished)
        )

    # --- clients

    async def _send(self, name: str) -> None:
        for _ in range(SIGNALS):
            one = message(name)
            assert await self._bench.send(one) == [Accepted()]
            self._sent.add((name, one.key))
            await asyncio.sleep(0)

    async def _pause(self) -> None:
        """It is resumed in any case: a pause that stays would let all wait for ever."""
        ref = InstanceRef(instance_id=self._random.choice(INSTANCES))
        try:
            assert await self._bench.change(Pause(ref=ref)) == [Accepted()]
        finally:
            assert await asyncio.shield(self._bench.change(Resume(ref=ref))) == [Accepted()]

    # --- who does activities

    async def _do_activities(self, worker_id: str) -> None:
        for task in await self._bench.claim_activities(worker_id, limit=self._random.randint(1, 3)):
            if self._chance(0.3):
                lease = activity_lease(task, self._bench.lease_us, '"half"')
                self._hear(task, (await self._bench.extend(lease))[0], Extended)
            if self._chance(0.3):
                self._hear(task, (await self._bench.release(activity_lease(task)))[0], Accepted)
            elif self._hear(task, (await self._bench.finish(finished(task)))[0], Accepted):
                self._finished[_task(task)] += 1

    def _hear(self, task: ActivityTask, verdict: object, good: type) -> bool:
        """Nobody takes what a worker holds; only its run may want it no more."""
        assert isinstance(verdict, good) or _task(task) in self._withdrawn, f"{task}: {verdict}"
        return isinstance(verdict, good)

    # --- who does runs

    async def _do_runs(self, worker_id: str) -> None:
        for task in await self._bench.claim(worker_id, limit=self._random.randint(1, 3)):
            if self._chance(0.2):
                await self._bench.release(workflow_lease(task, worker_id))
            else:
                await self._step(task, worker_id)

    async def _step(self, task: WorkflowTask, worker_id: str) -> None:
        new = self._new_activity(task.instance_id, worker_id)
        withdrawn = self._no_more_wanted(task.instance_id)
        first = step(
            task,
            fresh("event").encode(),
            consumed=tuple(one.number for one in task.messages),
            seen=task.seen,
            activities=() if new is None else (new,),
            withdrawn=withdrawn,
            lease=None if new is None else new.lease,
        )
        # Before it is known: others may see it at once.
        self._scheduled |= {(task.instance_id, one.number) for one in first.activities}
        self._withdrawn |= {(task.instance_id, number) for number in withdrawn}
        verdict = await self._commit(first)
        self._read[task.instance_id] += task.messages
        if new is None or new.lease is None:
            return
        if isinstance(verdict, Paused):
            ref = activity_ref(task, new.number)
            lease = ActivityLease(ref=ref, token=new.lease.token)
            assert await self._bench.release(lease) == [Accepted()]
            return
        absorbed = Absorbed(number=new.number, token=new.lease.token)
        await self._commit(step(first, fresh("event").encode(), absorbed=(absorbed,)))
        self._absorbed[task.instance_id, new.number] += 1

    async def _commit(self, checkpoint: Checkpoint) -> Accepted | Paused:
        (verdict,) = await self._bench.commit(checkpoint)
        assert isinstance(verdict, Accepted | Paused), (
            f"it was held, and its head stood: {checkpoint}: {verdict}"
        )
        return verdict

    def _new_activity(self, name: str, worker_id: str) -> NewActivity | None:
        """For anybody, or for the worker itself."""
        if self._last_number[name] >= FIRST_ACTIVITIES + LATER_ACTIVITIES:
            return None
        self._last_number[name] += 1
        lease = held(worker_id, self._bench.lease_us) if self._chance(0.5) else None
        return activity(self._last_number[name], lease=lease)

    def _no_more_wanted(self, name: str) -> tuple[int, ...]:
        over = {*self._finished, *self._absorbed, *self._withdrawn}
        left = sorted(number for of, number in self._scheduled - over if of == name)
        return (self._random.choice(left),) if left and self._chance(0.1) else ()

    def _chance(self, share: float) -> bool:
        return self._random.random() < share

    # --- what must be true

    def check(self) -> None:
        """Of everything once, and in order."""
        assert self._scheduled == {*self._finished, *self._absorbed, *self._withdrawn}
        assert set((self._finished + self._absorbed).values()) == {1}, self._finished + self._absorbed
        for name, read in self._read.items():
            numbers = [one.number for one in read]
            assert numbers == sorted(set(numbers)), f"{name!r} was told twice, or out of order: {numbers}"
            signals = {one.key for one in read if one.kind == "signal"}
            assert signals == {key for to, key in self._sent if to == name}
            outcomes = sum(of == name for of, _ in self._finished)
            assert len(read) == len(signals) + outcomes, f"{name!r} was not told of every outcome: {numbers}"


def _task(task: ActivityTask) -> Task:
    return task.ref.instance_id, task.ref.number
