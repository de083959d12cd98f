"""What the server reads for a batch does not grow with what is in the tables.

The server counts the rows and index entries that it reads for each call, with the plans that it really uses: at 100,000
runs and as many activities, and 100,000 due ones of each that nobody here has the code for in front.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from durable.backends.postgres import open_store
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
from durable.backends.sql.server.tables import META, ROLES, TABLES
from durable.testing import servers
from durable.testing.conformance import StoreUnderTest
from durable.testing.conformance.bench import Bench
from durable.testing.conformance.specimens import activity, fresh, message, new, step
from tests.backends.postgres import seeds

MANY = 20
"""Items of a batch."""
READS = 40
"""Index entries that the server may read for an item, all statements of the call together: 9 at most, and entries of
older versions of the rows, as long as another transaction keeps them from being cleared away."""


@pytest.fixture(scope="module")
def url(postgres_server: servers.Server) -> Iterator[str]:
    async def seeded() -> str:
        url = await postgres_server.create_database()
        store = await open_store(url, call_timeout=100)
        async with seeds.database_of(store)._pool.lent() as loan:
            if loan.connection.get_server_version().major < 15:
                pytest.skip("the counters of a server before 15 come when they like")
            for statement in (
                seeds.runs("u", "Unknown", "n"),
                seeds.runs("o", "Order", "NULL"),
                seeds.activities("u", "unknown", "n"),
                seeds.activities("o", "charge", "NULL"),
                seeds.histories("o"),
                "ANALYZE",
            ):
                await loan.connection.execute(statement)
        await store.close()
        return url

    url = asyncio.run(seeded())
    yield url
    asyncio.run(postgres_server.drop_database(url))


@pytest.fixture
async def bench(url: str) -> AsyncIterator[Bench]:
    # One connection for all, so that its counters tell everything.
    store = await open_store(url, pool_size=2, wakeups="off")
    yield Bench(store, StoreUnderTest())
    await store.close()


class Watch:
    """Runs a call, and judges what was sent for it and how much the server read."""

    def __init__(self, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
        self._database = seeds.database_of(bench.store)
        self._sent = seeds.Sent(monkeypatch)
        self.texts: list[str] = []

    async def call(self, awaitable: Any, items: int) -> Any:
        scanned, entries = await seeds.reads(self._database)
        self._sent.texts.clear()
        answer = await awaitable
        self.texts = [*self._sent.texts]
        scanned_after, entries_after = await seeds.reads(self._database)
        assert scanned_after == scanned, f"a table was scanned by one of {self.texts}"
        count = entries_after - entries
        assert count <= READS * max(1, items), f"{count} reads for {items} items: {self.texts}"
        return answer


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
    leases = [ActivityLease(ref=one.ref, token=one.token, lease_us=9) for one in attempts]
    await store.extend(leases)  # on the other connection, whose counters nobody asks for
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
    store, claimant = bench.store, bench.claimant(queues=("elsewhere",))
    for claim in (
        lambda: store.claim_workflow_tasks(claimant, 100),
        lambda: store.claim_activity_tasks(claimant, 100),
        lambda: store.claim_questions(claimant, 100),
        lambda: store.claim_stalled_tasks(claimant, 100, at_start=False),
        lambda: store.claim_outbox(claimant, 100),
    ):
        answer = await watch.call(claim(), 1)
        assert (list(answer.items), len(watch.texts)) == ([], 1)


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


async def test_hot_statements_say_which_part_they_are_about(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a distributed server each of their rows is then found on one machine. Claims look everywhere, once."""
    sent = seeds.Sent(monkeypatch)
    await _live(bench)
    of_parts = [name for name in TABLES if name not in (META.name, ROLES.name)]
    for text in sent.texts:
        if "UNION ALL" in text and "'now'" in text:
            continue
        for name in of_parts:
            for alias in re.findall(rf'(?<!INTO )"public"\."{name}" AS (\w+)', text):
                assert re.search(rf'\b{alias}\."?part"? = ', text), f"{name} without part: {text}"


async def _live(bench: Bench) -> None:
    store, name = bench.store, fresh("p")
    await store.create([new(name)])
    await store.send([message(name)])
    tasks = (await store.claim_workflow_tasks(bench.claimant(), 100)).items
    (task,) = (one for one in tasks if one.instance_id == name)
    first = step(task, b"waits", activities=(activity(2),), consumed=(1,), seen=1)  # type: ignore[arg-type]
    await store.commit([first])
    attempts = (await store.claim_activity_tasks(bench.claimant(), 100)).items
    mine = [one for one in attempts if one.ref.instance_id == name]
    await store.extend([ActivityLease(ref=one.ref, token=one.token, lease_us=9) for one in mine])
    await store.finish_activities(
        [ActivityFinished(ref=one.ref, token=one.token, kind="activity_completed", body="1") for one in mine]
    )
    end = step(first, b"ends", consumed=(2,), seen=2, close=Close(state="completed", result="1"))
    await store.commit([end])
