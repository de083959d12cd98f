"""Laws of upkeep: forgetting, roles, migrations, and an audit that finds what was broken by hand (I7, I8)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import pytest

from durable.backends.records import (
    Accepted,
    Created,
    InstanceRef,
    NotFound,
    Parent,
    Problem,
    Purge,
    Question,
    Reply,
    Stall,
    Ticket,
    Unfinished,
)
from durable.testing.conformance.bench import Bench
from durable.testing.conformance.clock import HOUR, SECOND
from durable.testing.conformance.laws import Laws
from durable.testing.conformance.specimens import (
    child,
    continued,
    done,
    ended,
    head_of,
    message,
    new,
    step,
)

A = InstanceRef(instance_id="a")


# --- what is healthy before it is damaged, and what must go on after the repair


async def _claimed(bench: Bench) -> None:
    await bench.start("a")
    await bench.claim_one("a")


async def _is_claimable(bench: Bench) -> None:
    await bench.claim_one("a", "w2")


async def _stalled(bench: Bench) -> None:
    at = await bench.start("a")
    problem = Problem(report="x", build="1")
    ref = InstanceRef(instance_id="a")
    await bench.change(Stall(ref=ref, head=head_of(at), problem=problem, retry_after_us=0))


async def _is_tried_again(bench: Bench) -> None:
    tasks = (await bench.store.claim_stalled_tasks(bench.claimant(), 5, at_start=False)).items
    assert [task.instance_id for task in tasks] == ["a"]


async def _limited(bench: Bench) -> None:
    await bench.start("a", timeout_us=bench.lease_us)


async def _ends_in_time(bench: Bench) -> None:
    assert await bench.claim_overdue() == []
    await bench.outlive_lease()
    assert [one.instance_id for one in await bench.claim_overdue()] == ["a"]


async def _charging(bench: Bench) -> None:
    await bench.scheduled("a")


async def _has_its_activity(bench: Bench) -> None:
    assert (await bench.claim_activity()).ref.instance_id == "a"


async def _unread(bench: Bench) -> None:
    await bench.waiting("a")
    await bench.send(message("a", "k"))


async def _takes_a_resend_once(bench: Bench) -> None:
    assert await bench.send(message("a", "k")) == [Accepted()]
    assert [one.key for one in await bench.unread("a")] == ["k"]


async def _with_a_child_left(bench: Bench) -> None:
    at = await bench.start("a", "r1")
    parent = Parent(instance_id="a", run_id="r1", number=1, close="terminate")
    await bench.commit(step(at, children=(child(1, new("kid", parent=parent)),)))
    await bench.commit(done(await bench.claim_child("a")))


async def _closes_its_child(bench: Bench) -> None:
    (found,) = await bench.claim_closings()
    assert [one.instance_id for one in found.children] == ["kid"]


async def _asked(bench: Bench) -> None:
    await bench.waiting("a")
    await bench.store.ask([Question(id="q", ref=A, name="n", body="b", timeout_us=HOUR)])


async def _is_asked(bench: Bench) -> None:
    asked = (await bench.store.claim_questions(bench.claimant(), 5)).items
    assert [task.question_id for task in asked] == ["q"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wound:
    """A kind of damage, which rule it breaks, and when one can say that it was mended."""

    kind: str
    rule: str
    before: Callable[[Bench], Awaitable[None]]
    after: Callable[[Bench], Awaitable[None]]


WOUNDS = (
    Wound(kind="lease_lost", rule="I7", before=_claimed, after=_is_claimable),
    Wound(kind="retry_lost", rule="I7", before=_stalled, after=_is_tried_again),
    Wound(kind="deadline_lost", rule="I7", before=_limited, after=_ends_in_time),
    Wound(kind="activity_hidden", rule="I7", before=_charging, after=_has_its_activity),
    Wound(kind="key_lost", rule="I14", before=_unread, after=_takes_a_resend_once),
    Wound(kind="closing_lost", rule="I7", before=_with_a_child_left, after=_closes_its_child),
    Wound(kind="question_lost", rule="I7", before=_asked, after=_is_asked),
)


class UpkeepLaws(Laws):
    """`delete`, `purge`, `hold_role`, `migrate`, `close` and `audit`."""

    async def test_a_finished_instance_is_forgotten_with_all_its_runs_and_keys(self, bench: Bench) -> None:
        at = await bench.start("a", "r1", messages=(message("a", "k"),))
        await bench.commit(continued(at, "r2", consumed=(1,), seen=1))
        task = await bench.claim_one("a")
        await bench.commit(done(task, replies=(Reply(id="u", instance_id="a", body="1"),)))
        assert list((await bench.store.delete([A])).items) == [Accepted()]
        assert await bench.look("a") is None
        assert await bench.look("a", "r1") is None
        assert await bench.history("a", "r1") == ()
        assert list((await bench.store.replies([Ticket(id="u", instance_id="a")])).items) == [None]
        assert await bench.send(message("a", "k")) == [NotFound()]
        await bench.waiting("a", "r1")
        assert await bench.send(message("a", "k")) == [Accepted()]
        assert [m.number for m in await bench.unread("a")] == [1]

    async def test_one_run_is_forgotten_and_the_others_stay(self, bench: Bench) -> None:
        await bench.commit(continued(await bench.start("a", "r1"), "r2"))
        await bench.commit(done(await bench.claim_one("a")))
        old = InstanceRef(instance_id="a", run_id="r1")
        assert list((await bench.store.delete([old])).items) == [Accepted()]
        assert await bench.look("a", "r1") is None
        assert (await bench.view("a")).run_id == "r2"

    async def test_what_is_unfinished_is_not_forgotten(self, bench: Bench) -> None:
        await bench.start("a", "r1")
        nobody = InstanceRef(instance_id="nobody")
        verdicts = (await bench.store.delete([A, nobody, InstanceRef(instance_id="a", run_id="r2")])).items
        assert list(verdicts) == [Unfinished(state="running"), NotFound(), NotFound()]
        assert (await bench.view("a")).state == "running"

    async def test_the_finished_runs_of_an_unfinished_instance_can_be_forgotten_alone(
        self, bench: Bench
    ) -> None:
        await bench.commit(continued(await bench.start("a", "r1"), "r2"))
        old = InstanceRef(instance_id="a", run_id="r1")
        assert list((await bench.store.delete([A, old])).items) == [Unfinished(state="running"), Accepted()]
        assert (await bench.claim_one("a")).run_id == "r2"

    async def test_purge_forgets_what_was_closed_before_a_time_and_in_these_states(
        self, bench: Bench
    ) -> None:
        clock = bench.under_test.needs_clock()
        await bench.commit(done(await bench.start("old")))
        await bench.start("stopped")
        await bench.change(ended("stopped"))
        await bench.start("open")
        await bench.advance(HOUR)
        await bench.commit(done(await bench.start("late")))
        none = await bench.store.purge(Purge(closed_before_us=clock.now_us - HOUR))
        assert list(none.items) == []
        some = await bench.store.purge(Purge(closed_before_us=clock.now_us, states=("completed",)))
        assert list(some.items) == [InstanceRef(instance_id="old", run_id="old-1")]
        assert await bench.look("old") is None
        assert [bool(await bench.look(name)) for name in ("stopped", "open", "late")] == [True] * 3

    async def test_purge_takes_a_bounded_batch(self, bench: Bench) -> None:
        for n in range(7):
            await bench.commit(done(await bench.start(f"i{n}")))
        purge = Purge(closed_before_us=await bench.now() + SECOND, limit=3)
        assert [len((await bench.store.purge(purge)).items) for _ in range(4)] == [3, 3, 1, 0]

    async def test_a_purged_id_is_free_and_knows_no_keys(self, bench: Bench) -> None:
        at = await bench.start("a", "r1", messages=(message("a", "k"),))
        await bench.commit(done(at, consumed=(1,), seen=1))
        await bench.store.purge(Purge(closed_before_us=await bench.now() + SECOND))
        assert await bench.create(new("a", "r1", messages=(message("a", "k"),))) == [Created(run_id="r1")]
        assert len((await bench.claim_one("a")).messages) == 1

    async def test_one_worker_at_a_time_has_a_role(self, bench: Bench) -> None:
        hold, lease = bench.store.hold_role, bench.lease_us
        assert await hold("upkeep", "w1", lease)
        assert not await hold("upkeep", "w2", lease)
        assert await hold("upkeep", "w1", lease)
        assert await hold("relay", "w2", lease)
        await bench.outlive_lease()
        assert await hold("upkeep", "w2", lease)
        assert not await hold("upkeep", "w1", lease)

    async def test_a_role_ends_on_its_microsecond(self, bench: Bench) -> None:
        bench.under_test.needs_clock()
        await bench.store.hold_role("upkeep", "w1", SECOND)
        await bench.advance(SECOND - 1)
        assert not await bench.store.hold_role("upkeep", "w2", SECOND)
        await bench.advance(1)
        assert await bench.store.hold_role("upkeep", "w2", SECOND)

    async def test_of_many_workers_at_once_one_gets_the_role(self, bench: Bench) -> None:
        asks = (bench.store.hold_role("upkeep", f"w{n}", bench.lease_us) for n in range(10))
        assert sum(await asyncio.gather(*asks)) == 1

    async def test_migrating_again_and_twice_at_once_changes_nothing(self, bench: Bench) -> None:
        await bench.start("a")
        before = await bench.snapshot()
        await asyncio.gather(bench.store.migrate(), bench.store.migrate())
        assert await bench.snapshot() == before

    async def test_what_was_accepted_is_there_after_closing_and_opening_again(self, bench: Bench) -> None:
        bench.under_test.needs_kept_data()
        await bench.waiting("a", status="x")
        await bench.send(message("a", "k"))
        before = await bench.snapshot()
        await bench.reopen()
        assert await bench.snapshot() == before
        assert [m.key for m in await bench.unread("a")] == ["k"]

    async def test_two_openings_of_a_store_see_each_others_writes(self, bench: Bench) -> None:
        bench.under_test.needs_kept_data()
        other = Bench(await bench.under_test.open(), bench.under_test)
        try:
            await other.store.migrate()
            at = await bench.start("a")
            verdicts = await asyncio.gather(bench.commit(step(at)), other.commit(step(at)))
            assert sorted(type(each).__name__ for (each,) in verdicts) == ["Accepted", "Lost"]
            assert (await other.view("a")).head == (await bench.view("a")).head
            starts = [(bench if n % 2 else other).create(new("b", f"r{n}")) for n in range(20)]
            made = [item for (item,) in await asyncio.gather(*starts) if isinstance(item, Created)]
            assert len(made) == 1
        finally:
            await other.store.close()

    async def test_a_call_that_is_cancelled_is_done_or_not_and_harms_no_other(self, bench: Bench) -> None:
        """A reply that nobody took must not be the next caller's."""
        for turns in range(12):
            call = asyncio.ensure_future(bench.store.create([new(f"i{turns}")]))
            for _ in range(turns):
                await asyncio.sleep(0)
            call.cancel()
            await asyncio.gather(call, return_exceptions=True)
            assert await bench.create(new(f"j{turns}", "r")) == [Created(run_id="r")]
            assert (await bench.view(f"j{turns}")).instance_id == f"j{turns}"
            assert await bench.create(new(f"i{turns}")) == [Created(run_id=f"i{turns}-1")]

    @pytest.mark.parametrize(
        ("kind", "rule"),
        [("head_ahead", "I2"), ("history_lost", "I2"), ("end_without_time", "I3"), ("stranded", "I7")],
    )
    async def test_an_audit_names_the_run_that_was_damaged_by_hand(
        self, bench: Bench, kind: str, rule: str
    ) -> None:
        await bench.waiting("a")
        await bench.send(message("a"))
        await bench.waiting("b")
        await bench.damage(kind, "a")
        found = await bench.broken()
        assert rule in [finding.rule.split()[0] for finding in found]
        assert {finding.instance_id for finding in found} == {"a"}

    async def test_an_audit_mends_a_run_that_nothing_would_wake(self, bench: Bench) -> None:
        await bench.waiting("a")
        await bench.send(message("a", "k"))
        await bench.damage("stranded", "a")
        assert await bench.claim() == []
        (finding,) = await bench.broken(repair=True)
        assert finding.repairable and finding.repaired
        assert [m.key for m in (await bench.claim_one("a")).messages] == ["k"]
        assert await bench.broken() == []

    @pytest.mark.parametrize("wound", WOUNDS, ids=lambda wound: wound.kind)
    async def test_an_audit_finds_what_was_lost_by_hand_and_puts_it_back(
        self, bench: Bench, wound: Wound
    ) -> None:
        await wound.before(bench)
        assert await bench.broken() == []
        await bench.damage(wound.kind, "a")
        for repair in (False, True):
            found = await bench.broken(repair=repair)
            assert {one.instance_id for one in found} == {"a"}
            assert wound.rule in {one.rule.split()[0] for one in found}
            assert all(one.repairable and one.repaired == repair for one in found)
        assert await bench.broken() == []
        await wound.after(bench)

    async def test_an_audit_of_a_healthy_store_finds_nothing(self, bench: Bench) -> None:
        at = await bench.scheduled("a")
        await bench.send(message("a"))
        await bench.commit(done(await bench.start("b")))
        await bench.commit(continued(await bench.start("c"), "c-2"))
        await bench.start("d", start_at_us=await bench.now() + HOUR, timeout_us=HOUR)
        await bench.change(ended("d"))
        assert await bench.broken() == []
        assert await bench.broken(repair=True) == []
        assert (await bench.view("a")).head == at.new_head
