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
    Accepted,
    Extended,
    Head,
    InstanceRef,
    Message,
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
    finished,
    fresh,
    message,
    step,
    workflow_lease,
)

INSTANCES = ("a", "b", "c", "d")
FIRST_ACTIVITIES, LATER_ACTIVITIES = 5, 5
SIGNALS = 12
"""To each instance."""
ROUNDS = 5_000


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
        self._scheduled: set[tuple[str, int]] = set()
        self._finished: Counter[tuple[str, int]] = Counter()
        self._sent: set[tuple[str, str]] = set()
        self._read: dict[str, list[Message]] = {name: [] for name in INSTANCES}
        self._heads: dict[str, Head] = {}
        self._senders = 0

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
        """Whether everything was scheduled, finished, sent, and read."""
        return (
            all(self._last_number[name] >= FIRST_ACTIVITIES + LATER_ACTIVITIES for name in INSTANCES)
            and self._finished.keys() == self._scheduled
            and len(self._sent) == SIGNALS * len(INSTANCES)
            and sum(map(len, self._read.values())) >= len(self._sent) + len(self._finished)
        )

    # --- who works

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

    async def _do_activities(self, worker_id: str) -> None:
        for task in await self._bench.claim_activities(worker_id, limit=self._random.randint(1, 3)):
            if self._random.random() < 0.3:
                extended = await self._bench.extend(activity_lease(task, self._bench.lease_us, '"half"'))
                assert extended == [Extended()], f"{task.ref} was held by {worker_id}"
            if self._random.random() < 0.3:
                assert await self._bench.release(activity_lease(task)) == [Accepted()]
            else:
                assert await self._bench.finish(finished(task)) == [Accepted()], (
                    f"{task.ref} was {worker_id}'s"
                )
                self._finished[task.ref.instance_id, task.ref.number] += 1

    async def _do_runs(self, worker_id: str) -> None:
        for task in await self._bench.claim(worker_id, limit=self._random.randint(1, 3)):
            if self._random.random() < 0.2:
                await self._bench.release(workflow_lease(task, worker_id))
            else:
                await self._step(task)

    async def _step(self, task: WorkflowTask) -> None:
        name = task.instance_id
        more = self._last_number[name] < FIRST_ACTIVITIES + LATER_ACTIVITIES
        number = self._last_number[name] + 1
        self._last_number[name] += more
        checkpoint = step(
            task,
            fresh("event").encode(),
            consumed=tuple(one.number for one in task.messages),
            seen=task.seen,
            activities=(activity(number),) if more else (),
        )
        # Before it is known: the activity may be claimed at once.
        self._scheduled |= {(name, number)} if more else set()
        (verdict,) = await self._bench.commit(checkpoint)
        assert isinstance(verdict, Accepted | Paused), f"{name!r} was held, and its head stood: {verdict}"
        self._read[name] += task.messages

    # --- what must be true

    def check(self) -> None:
        """Of everything once, and in order."""
        assert self._finished.keys() == self._scheduled
        assert set(self._finished.values()) == {1}, self._finished
        for name, read in self._read.items():
            numbers = [one.number for one in read]
            assert numbers == sorted(set(numbers)), f"{name!r} was told twice, or out of order: {numbers}"
            assert {one.key for one in read if one.kind == "signal"} == {
                key for to, key in self._sent if to == name
            }
            assert len(read) == SIGNALS + FIRST_ACTIVITIES + LATER_ACTIVITIES
