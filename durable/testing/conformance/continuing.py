"""Laws of continue-as-new: a linear chain, over which nothing that was sent is lost (I14, I24)."""

from __future__ import annotations

import asyncio

from durable.backends.records import (
    Accepted,
    Close,
    Finished,
    Head,
    InstanceRef,
    Lost,
    Parent,
    Pause,
    Paused,
    Resume,
    Taken,
)
from durable.testing.conformance.bench import Bench
from durable.testing.conformance.clock import HOUR, SECOND
from durable.testing.conformance.laws import Laws
from durable.testing.conformance.specimens import (
    activity,
    child,
    continued,
    done,
    held,
    message,
    new,
    signal,
    step,
)


class ContinuingLaws(Laws):
    """`Checkpoint.next_run`."""

    async def test_the_next_run_follows_in_the_same_step(self, bench: Bench) -> None:
        at = await bench.waiting("a", "r1")
        checkpoint = continued(at, "r2")
        assert await bench.commit(checkpoint) == [Accepted()]
        old, current = await bench.view("a", "r1"), await bench.view("a")
        assert (old.state, old.next_run_id) == ("continued_as_new", "r2")
        assert (current.run_id, current.state, current.first_run_id) == ("r2", "running", "r1")
        assert current.next_run_id is None
        assert await bench.history("a", "r1") == (b"started", b"waiting", b"continued")
        assert await bench.history("a", "r2") == (b"started",)
        task = await bench.claim_one("a")
        assert (task.run_id, task.first_run_id, task.claims) == ("r2", "r1", 1)

    async def test_a_repeated_continuing_makes_one_next_run(self, bench: Bench) -> None:
        checkpoint = continued(await bench.waiting("a", "r1"), "r2")
        await bench.commit(checkpoint)
        await bench.commit(step(await bench.claim_one("a")))
        before = await bench.snapshot()
        assert await bench.commit(checkpoint) == [Accepted()]
        assert await bench.snapshot() == before

    async def test_of_two_next_runs_one_wins(self, bench: Bench) -> None:
        at = await bench.waiting("a", "r1")
        assert await bench.commit(continued(at, "r2"), continued(at, "r3")) == [Accepted(), Lost()]
        assert await bench.look("a", "r3") is None

    async def test_the_first_run_of_a_long_chain_is_remembered(self, bench: Bench) -> None:
        await bench.start("a", "r1")
        for n in range(2, 6):
            assert await bench.commit(continued(await bench.claim_one("a"), f"r{n}")) == [Accepted()]
        assert (await bench.view("a")).first_run_id == "r1"
        assert (await bench.view("a", "r3")).next_run_id == "r4"

    async def test_tags_vars_and_status_are_inherited(self, bench: Bench) -> None:
        at = await bench.start("a", "r1", tags={"n": "1"})
        await bench.commit(first := step(at, status="old", vars={"x": "1"}))
        await bench.commit(continued(first, "r2"))
        view = await bench.view("a")
        assert (view.tags, view.vars, view.status) == ({"n": "1"}, {"x": "1"}, "old")

    async def test_the_deadline_is_inherited(self, bench: Bench) -> None:
        bench.under_test.needs_clock()
        at = await bench.start("a", "r1", timeout_us=HOUR)
        deadline = (await bench.view("a")).deadline_us
        await bench.advance(SECOND)
        await bench.commit(continued(at, "r2"))
        assert (await bench.view("a")).deadline_us == deadline
        await bench.advance(HOUR)
        assert [overdue.run_id for overdue in await bench.claim_overdue()] == ["r2"]

    async def test_the_parent_hears_of_the_last_run_only(self, bench: Bench) -> None:
        parent = await bench.start("p")
        of = Parent(instance_id="p", run_id=parent.run_id, number=2)
        kid = new("c", "c1", parent=of)
        await bench.commit(started := step(parent, children=(child(2, kid),)))
        await bench.commit(step(started, consumed=(1,), seen=1))
        next_run = new("c", "c2")
        assert await bench.commit(continued(kid, next_run=next_run)) == [Accepted()]
        assert (await bench.view("c")).parent == of
        assert "p" not in [task.instance_id for task in await bench.claim()]
        await bench.commit(done(next_run, close=Close(state="completed", parent_body="end")))
        assert [(m.kind, m.key, m.body) for m in await bench.unread("p")] == [
            ("child_closed", "closed/c2", "end")
        ]

    async def test_messages_that_were_not_consumed_move_along_in_order(self, bench: Bench) -> None:
        at = await bench.waiting("a", "r1")
        await bench.send(message("a", "x"), message("a", "y"), message("a", "z"))
        assert await bench.commit(continued(at, "r2", consumed=(2,), seen=3)) == [Accepted()]
        task = await bench.claim_one("a")
        assert (task.run_id, [m.key for m in task.messages]) == ("r2", ["x", "z"])

    async def test_messages_for_the_run_itself_are_dropped_with_it(self, bench: Bench) -> None:
        at = await bench.waiting("a", "r1")
        await bench.send(message("a", "for the run", run_id="r1"), message("a", "for the instance"))
        await bench.commit(continued(at, "r2", seen=2))
        assert [m.key for m in (await bench.claim_one("a")).messages] == ["for the instance"]

    async def test_messages_of_the_next_run_come_after_those_that_moved_along(self, bench: Bench) -> None:
        at = await bench.waiting("a", "r1")
        await bench.send(message("a", "old"))
        next_run = new("a", "r2", messages=(message("a", "new"),))
        await bench.commit(continued(at, next_run=next_run, seen=1))
        assert [m.key for m in (await bench.claim_one("a")).messages] == ["old", "new"]

    async def test_outcomes_for_the_old_run_are_nothing_unread_for_the_next(self, bench: Bench) -> None:
        at = await bench.waiting("a", "r1")
        assert await bench.commit(continued(at, "r2", sends=(signal(3, "nobody"),))) == [
            Accepted(unread=False)
        ]
        assert (await bench.claim_one("a")).messages == ()

    async def test_numbers_go_on_over_the_runs(self, bench: Bench) -> None:
        at = await bench.waiting("a", "r1")
        await bench.send(message("a"))
        await bench.commit(continued(at, "r2", consumed=(1,), seen=1))
        await bench.send(message("a"))
        assert [m.number for m in (await bench.claim_one("a")).messages] == [2]

    async def test_a_paused_instance_stays_paused_in_its_next_run(self, bench: Bench) -> None:
        at = await bench.waiting("a", "r1")
        await bench.change(Pause(ref=InstanceRef(instance_id="a")))
        assert await bench.commit(continued(at, "r2")) == [Paused()]
        assert (await bench.view("a")).state == "paused"
        assert await bench.claim() == []
        await bench.change(Resume(ref=InstanceRef(instance_id="a")))
        assert (await bench.claim_one("a")).run_id == "r2"

    async def test_there_is_no_instant_without_an_unfinished_run(self, bench: Bench) -> None:
        for n in range(10):
            at = await bench.waiting(f"i{n}", f"i{n}-1")
            (continuing,), (started,) = await asyncio.gather(
                bench.commit(continued(at, f"i{n}-2")), bench.create(new(f"i{n}", f"i{n}-3"))
            )
            assert (continuing, type(started)) == (Accepted(), Taken)

    async def test_the_activities_of_the_old_run_do_not_reach_the_next(self, bench: Bench) -> None:
        at = await bench.waiting("a", "r1", activities=(activity(1),))
        await bench.commit(continued(at, "r2"))
        assert await bench.claim_activities() == []
        assert await bench.send(message("a", "activity/r1/1", run_id="r1")) == [
            Finished(state="continued_as_new")
        ]

    async def test_the_next_run_can_be_born_claimed(self, bench: Bench) -> None:
        at = await bench.waiting("a", "r1")
        next_run = new("a", "r2", lease=held("w1", bench.lease_us))
        await bench.commit(continued(at, next_run=next_run))
        assert await bench.claim("w2") == []
        assert await bench.commit(step(next_run)) == [Accepted()]

    async def test_the_old_worker_can_write_into_neither_run(self, bench: Bench) -> None:
        at = await bench.waiting("a", "r1")
        await bench.commit(continued(at, "r2"))
        late = new("a", "r2", head=Head(number=1, token="guessed"))
        assert await bench.commit(step(at), step(late)) == [Lost(), Lost()]
