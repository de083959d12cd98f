"""What the server reads for a batch does not grow with what is in the tables.

Every statement that a store sends is recorded and explained, and the server counts the rows that it reads for it: at
100,000 runs and as many activities, and 100,000 due ones of each that nobody here has the code for in front.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any, cast

import pytest

from durable.backends.contract import Backend
from durable.backends.mysql import open_store
from durable.backends.records import (
    ActivityFinished,
    ActivityLease,
    Close,
    Filter,
    HistoryRange,
    InstanceRef,
    Purge,
    Question,
    Reply,
)
from durable.testing import servers
from durable.testing.conformance import StoreUnderTest
from durable.testing.conformance.bench import Bench
from durable.testing.conformance.specimens import activity, fresh, message, new, step
from tests.backends.mysql import seeds

MANY = 20
"""Items of a batch."""
READS = 40
"""Rows (and index entries) that the server may read for an item, all statements of the call together."""


@pytest.fixture(scope="module")
def url(mysql_server: servers.Server) -> Iterator[str]:
    async def seeded() -> str:
        url = await mysql_server.create_database()
        store = await open_store(f"{url}?call_timeout=100")
        async with database_of(store).pool.link() as link:
            for statement in (
                seeds.runs("u", "Unknown", "n"),
                seeds.runs("o", "Order", "NULL"),
                seeds.activities("u", "unknown", "n"),
                seeds.activities("o", "charge", "NULL"),
                seeds.histories("o"),
                "ANALYZE TABLE instances, activities, history",
            ):
                await link.run(statement.encode())
        await store.close()
        return url

    url = asyncio.run(seeded())
    yield url
    asyncio.run(mysql_server.drop_database(url))


def database_of(store: Backend) -> Any:
    return cast(Any, store)._database


@pytest.fixture
async def bench(url: str) -> AsyncIterator[Bench]:
    # One connection for all, so that its counters tell everything.
    store = await open_store(f"{url}?pool_size=2")
    yield Bench(store, StoreUnderTest())
    await store.close()


_IN_ORDER = {"instances_created", "past_runs_created", "outbox_order"}
"""Read from one end, up to a LIMIT."""


class Watch:
    """Runs a call, and tells what was sent for it and how many rows the server read."""

    def __init__(self, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
        self.pool = database_of(bench.store).pool
        self.sent = seeds.Sent()
        self.sent.watch(monkeypatch)
        self.statements: list[bytes] = []

    async def call(self, awaitable: Any, items: int) -> Any:
        before = await self.reads()
        self.sent.statements.clear()
        answer = await awaitable
        statements = self.statements = [*self.sent.statements]
        reads = await self.reads() - before
        plans = [await self.explained(one) for one in statements]
        assert not [plan for plan in plans if plan], plans
        assert reads <= READS * max(1, items), f"{reads} reads for {items} items: {statements}"
        return answer

    async def reads(self) -> int:
        """Of the one connection that there is, for nothing here happens at the same time."""
        async with self.pool.link() as link:
            rows = (await link.run(b"SHOW SESSION STATUS LIKE 'Handler_read%'"))[0].rows
        return sum(int(value) for _, value in rows)

    async def explained(self, statement: bytes) -> list[str]:
        """What is wrong with the plan of a statement."""
        plain = seeds.explainable(statement)
        if plain is None:
            return []
        async with self.pool.link() as link:
            rows = (await link.run(b"EXPLAIN " + plain))[0].rows
        return [complaint for row in rows if (complaint := _complaint(row, statement))]


def _complaint(row: tuple[Any, ...], statement: bytes) -> str | None:
    table = str(row[2])
    access = row[4] if len(row) == 12 else row[3]  # MySQL tells the partitions before it
    ours = table not in ("None", "wanted") and not table.startswith("<")
    if ours and access in ("ALL", "index") and not _IN_ORDER & {str(value) for value in row}:
        return f"{table} is scanned ({access}) by {statement[:200]!r}"
    if ours and "Using filesort" in str(row[-1]):
        return f"{table} is sorted by {statement[:200]!r}"
    return None


async def test_a_life_of_runs_is_read_by_keys_and_short_ranges(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, call = bench.store, Watch(bench, monkeypatch).call
    names = [fresh("y") for _ in range(MANY)]
    await call(store.create([new(name) for name in names]), MANY)
    refs = [InstanceRef(instance_id=name) for name in names]
    await call(store.send([message(name) for name in names]), MANY)
    await call(store.get(refs), MANY)
    tasks = (await call(store.claim_workflow_tasks(bench.claimant(), 100), MANY)).items
    assert len(tasks) == MANY
    ranges = [HistoryRange(instance_id=one.instance_id, run_id=one.run_id) for one in tasks]
    await call(store.read_history(ranges), MANY)
    seen = {"consumed": (1,), "seen": 1}
    first = [step(task, b"waits", activities=(activity(2),), **seen) for task in tasks]
    await call(store.commit(first), MANY)
    attempts = (await call(store.claim_activity_tasks(bench.claimant(), 100), MANY)).items
    assert len(attempts) == MANY
    await call(
        store.extend([ActivityLease(ref=one.ref, token=one.token, lease_us=9) for one in attempts]), MANY
    )
    done = [
        ActivityFinished(ref=one.ref, token=one.token, kind="activity_completed", body="1")
        for one in attempts
    ]
    await call(store.finish_activities(done), MANY)
    await call(store.claim_workflow_tasks(bench.claimant(), 100), MANY)
    ends = {"consumed": (2,), "seen": 2, "close": Close(state="completed", result="1")}
    await call(store.commit([step(one, b"ends", **ends) for one in first]), MANY)
    await call(store.create([new(name, f"{name}-2") for name in names]), MANY)


async def test_a_worker_that_finds_nothing_asks_one_statement_that_reads_little(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch = Watch(bench, monkeypatch)
    store, claimant = bench.store, bench.claimant("idle", queues=("elsewhere",))
    for claim in (
        lambda: store.claim_workflow_tasks(claimant, 100),
        lambda: store.claim_activity_tasks(claimant, 100),
        lambda: store.claim_questions(claimant, 100),
        lambda: store.claim_stalled_tasks(claimant, 100, at_start=False),
        lambda: store.claim_outbox(claimant, 100),
    ):
        await claim()  # the first time the server reads about its tables, too
        answer = await watch.call(claim(), 1)
        assert (list(answer.items), len(watch.statements)) == ([], 1)


async def test_what_people_ask_for_is_read_by_ranges(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    store, call = bench.store, Watch(bench, monkeypatch).call
    await bench.start(name := fresh("z"), queue="elsewhere")
    ref = InstanceRef(instance_id=name, run_id=f"{name}-1")
    question = Question(id=fresh("q"), ref=ref, name="n", body="", timeout_us=10**7)
    tickets = (await call(store.ask([question]), 1)).items
    await call(store.claim_questions(bench.claimant(), 100), 1)
    await call(store.answer([Reply(id=question.id, instance_id=name, body="1")]), 1)
    await call(store.replies(tickets), 1)
    await call(store.find(Filter(limit=10)), 20)
    await call(store.children(ref, 10), 1)
    await call(store.purge(Purge(closed_before_us=1)), 1)
    assert await call(store.hold_role(fresh("role"), "w", 10), 1)
