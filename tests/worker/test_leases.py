"""Leases of attempts that have ended: kept until their outcome is written, and no longer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

import durable
from durable import Retry
from durable.backends.records import ActivityLease, Answer, Busy, Extended, Lease
from durable.client.client import Client
from tests.worker.stores import Store, connected, until

calls: list[int] = []


@durable.activity
async def work() -> str:
    calls.append(1)
    return "done"


@durable.activity(retry=Retry(2, initial=0.0, jitter=0.0))
async def fail_once() -> str:
    calls.append(1)
    if len(calls) == 1:
        raise OSError("not yet")
    return "done"


@durable.workflow
async def run(fails: bool) -> str:
    return await (fail_once() if fails else work())


@durable.activity(retry=Retry(1))
async def write() -> str:
    calls.append(1)
    async with durable.transaction():
        return "written"


@durable.workflow
async def run_write() -> str:
    return await write()


@pytest.fixture
async def ends() -> AsyncIterator[tuple[Client, Store]]:
    calls.clear()
    async with connected() as ends:
        yield ends


class HeldUp:
    """A store that answers `Busy` to outcomes of attempts until it is let go. ``renewed``: what `extend` was asked."""

    def __init__(self, store: Store) -> None:
        self.go = asyncio.Event()
        self.renewed: list[str] = []
        self.asked = 0
        store.hooks |= {"commit": self._commit, "finish_activities": self._finish, "extend": self._extend}

    async def _commit(self, method: Any, checkpoints: Sequence[Any]) -> Any:
        outcomes = any(b"activity_completed" in event for one in checkpoints for event in one.events)
        if self.go.is_set() or not outcomes:
            return await method(checkpoints)
        return await self._busy(len(checkpoints))

    async def _finish(self, method: Any, outcomes: Sequence[Any]) -> Any:
        return await (method(outcomes) if self.go.is_set() else self._busy(len(outcomes)))

    async def _busy(self, count: int) -> Answer[Busy]:
        self.asked += 1
        return Answer(now_us=0, items=[Busy()] * count)

    async def _extend(self, method: Any, leases: Sequence[Any]) -> Any:
        self.renewed += [_name(lease) for lease in leases]
        return await method(leases)


def _name(lease: Lease) -> str:
    """What has no row is held by the lease of its run."""
    return lease.token if isinstance(lease, ActivityLease) else lease.run_id


@pytest.mark.parametrize("fails", [False, True])
async def test_while_an_outcome_cannot_be_written_nobody_does_the_work_again(
    ends: tuple[Client, Store], fails: bool
) -> None:
    client, store = ends
    held = HeldUp(store)
    lease = 0.2
    async with durable.Worker(client, [run, work, fail_once], lease=lease) as worker:
        instance = await client.create_instance(run, fails)
        await until(lambda: held.asked, "an outcome that is held up")
        before = len(held.renewed)
        await until(lambda: len(held.renewed) >= before + 6, "renewals over two lives of the lease")
        assert calls == [1]
        held.go.set()
        assert await instance.result(timeout=10) == "done"
        assert len(calls) == 1 + fails
        assert worker._parts is not None
        assert worker._parts.leases._ended == {}


async def test_the_lease_of_an_outcome_that_nobody_wants_is_given_up(ends: tuple[Client, Store]) -> None:
    client, store = ends
    held = HeldUp(store)
    async with durable.Worker(client, [run, work], lease=0.2) as worker:
        instance = await client.create_instance(run, False)
        await until(lambda: held.asked, "an outcome that is held up")
        await instance.terminate()
        assert worker._parts is not None
        leases = worker._parts.leases
        await until(lambda: not leases._ended, "the end of renewals")
        held.go.set()


class Transactions:
    """Transactions that write nothing but the outcome. At a chosen moment the first one's lease runs out, and its task
    is handed to this worker once more.
    """

    def __init__(self, store: Store, moment: str) -> None:
        self._store = store
        self._moment = moment
        self.tokens: list[str] = []
        self.worker: Any = None
        self.connection = object()
        store.begin = self.begin  # type: ignore[attr-defined]
        store.hooks["extend"] = self._extend

    async def begin(self, ref: Any, token: str) -> Transactions:
        self.tokens.append(token)
        await self._lose("begin")
        return self

    async def finish(self, outcome: Any) -> None:
        await self._lose("finish")
        await self._store.real.finish_activities([outcome])

    async def rollback(self) -> None:
        pass

    async def _lose(self, moment: str) -> None:
        if moment == self._moment and len(self.tokens) == 1:
            (attempt,) = self.worker._parts.activities._running.values()
            self._store.skip(60)
            await until(lambda: attempt.item.token != self.tokens[0], "a second claim")
            raise durable.BackendError("not this worker's any more; nothing was written")

    async def _extend(self, method: Any, leases: Sequence[Any]) -> Answer[Extended]:
        return Answer(now_us=self._store.clock(), items=[Extended()] * len(leases))


@pytest.mark.parametrize("moment", ["begin", "finish"])
async def test_a_lease_that_is_lost_and_had_again_in_a_transaction_is_no_failure_of_the_attempt(
    ends: tuple[Client, Store], moment: str
) -> None:
    client, store = ends
    transactions = Transactions(store, moment)
    async with durable.Worker(client, [run_write, write]) as worker:
        transactions.worker = worker
        instance = await client.create_instance(run_write)
        assert await instance.result(timeout=10) == "written"  # though it may be tried only once
    assert len(set(transactions.tokens)) == 2
    assert len(calls) == (1 if moment == "begin" else 2)
