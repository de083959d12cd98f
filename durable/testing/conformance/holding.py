"""Laws of `holdings`: what a store holds of an unfinished run, and how what was lost is put back behind its history."""

from __future__ import annotations

from durable.backends.records import (
    Accepted,
    Close,
    Head,
    Holdings,
    InstanceRef,
    Lost,
    Parent,
    Pause,
)
from durable.testing.conformance.bench import Bench
from durable.testing.conformance.clock import HOUR
from durable.testing.conformance.laws import Laws
from durable.testing.conformance.specimens import (
    activity,
    child,
    continued,
    done,
    ended,
    finished,
    head_of,
    message,
    new,
    signal,
    step,
)

A = InstanceRef(instance_id="a")


async def held(bench: Bench, instance_id: str = "a", run_id: str | None = None) -> Holdings:
    """What is held of a run that is unfinished."""
    ref = InstanceRef(instance_id=instance_id, run_id=run_id)
    (found,) = (await bench.store.holdings([ref])).items
    assert found is not None, f"nothing is held of {instance_id!r} (run {run_id!r})"
    return found


class HoldingLaws(Laws):
    """`holdings`, and checkpoints without events on top of an unchanged head."""

    async def test_a_new_run_is_held_as_ready_and_nobodys(self, bench: Bench) -> None:
        at = await bench.start("a", "r1")
        found = await held(bench)
        assert found.ready_at_us is not None and found.ready_at_us <= await bench.now()
        expected = Holdings(
            instance_id="a",
            run_id="r1",
            state="running",
            head=head_of(at),
            seen=0,
            wake_at_us=None,
            ready_at_us=found.ready_at_us,
            lease_until_us=None,
            activities=(),
            answers=(),
        )
        assert found == expected

    async def test_a_claim_is_held_as_a_lease_and_takes_readiness_in(self, bench: Bench) -> None:
        await bench.start("a")
        await bench.claim_one("a")
        found = await held(bench)
        assert found.ready_at_us is None
        assert found.lease_until_us is not None and found.lease_until_us > await bench.now()

    async def test_activities_and_the_next_timer_are_held_as_the_checkpoint_said(self, bench: Bench) -> None:
        due_us = await bench.now() + HOUR
        both = (activity(2), activity(1))
        first = await bench.waiting("a", activities=both, wake_at_us=due_us)
        found = await held(bench)
        assert (found.activities, found.answers) == ((1, 2), ())
        assert (found.wake_at_us, found.ready_at_us, found.lease_until_us) == (due_us, due_us, None)
        assert found.head == first.new_head

    async def test_a_delayed_run_is_held_as_ready_at_its_time(self, bench: Bench) -> None:
        start_us = await bench.now() + HOUR
        await bench.start("a", start_at_us=start_us)
        assert (await held(bench)).ready_at_us == start_us

    async def test_a_result_takes_the_place_of_its_activity_at_once(self, bench: Bench) -> None:
        await bench.waiting("a", "r1", activities=(activity(1), activity(2)))
        one, other = sorted(await bench.claim_activities(), key=lambda task: task.ref.number)
        await bench.finish(finished(one))
        found = await held(bench)
        assert (found.activities, found.answers) == ((2,), ("activity/r1/1",))
        await bench.finish(finished(other, kind="activity_failed"))
        assert (await held(bench)).answers == ("activity/r1/1", "activity/r1/2")

    async def test_a_consumed_answer_is_held_no_more(self, bench: Bench) -> None:
        await bench.scheduled("a")
        await bench.finish(finished(await bench.claim_activity()))
        task = await bench.claim_one("a")
        await bench.commit(step(task, consumed=(1,), seen=1))
        found = await held(bench)
        assert (found.activities, found.answers, found.seen) == ((), (), 1)

    async def test_outcomes_and_ends_of_children_are_answers_and_signals_are_none(self, bench: Bench) -> None:
        parent = Parent(instance_id="a", run_id="r1", number=2, close="terminate")
        await bench.waiting("target")
        kid = new("kid", "k1", parent=parent)
        await bench.waiting("a", "r1", sends=(signal(1, "target"),), children=(child(2, kid),))
        await bench.send(message("a", "user/x"))
        over = done(await bench.claim_child("kid"), close=Close(state="completed", parent_body="2"))
        await bench.commit(over)
        assert (await held(bench)).answers == ("outcome/r1/1", "outcome/r1/2", "closed/k1")

    async def test_nothing_is_held_of_what_has_ended_or_is_not_there(self, bench: Bench) -> None:
        await bench.commit(done(await bench.start("over")))
        await bench.commit(continued(await bench.start("a", "r1"), "r2"))
        refs = [
            InstanceRef(instance_id="over"),
            InstanceRef(instance_id="nobody"),
            InstanceRef(instance_id="a", run_id="r1"),
            InstanceRef(instance_id="a", run_id="r2"),
            A,
        ]
        found = (await bench.store.holdings(refs)).items
        assert [one and one.run_id for one in found] == [None, None, None, "r2", "r2"]
        await bench.change(ended("a"))
        assert list((await bench.store.holdings([A])).items) == [None]

    async def test_a_paused_run_is_held_with_what_it_waits_for(self, bench: Bench) -> None:
        await bench.scheduled("a")
        await bench.change(Pause(ref=A))
        found = await held(bench)
        assert (found.state, found.activities) == ("paused", (1,))

    async def test_asking_what_is_held_changes_nothing(self, bench: Bench) -> None:
        await bench.scheduled("a")
        before = await bench.snapshot()
        first = await held(bench)
        assert await held(bench) == first
        assert await bench.snapshot() == before

    # --- putting back what was lost

    async def test_a_checkpoint_without_events_brings_an_activity_and_a_timer(self, bench: Bench) -> None:
        """So the engine mends a run: its history stays what it is, and whoever held the old head has lost."""
        first = await bench.waiting("a", "r1", status="x")
        due_us = await bench.now() + HOUR
        mended = step(
            first,
            events=(),
            new_head=Head(number=first.new_head.number, token="mended"),
            activities=(activity(1),),
            wake_at_us=due_us,
        )
        assert await bench.commit(mended) == [Accepted()]
        assert await bench.commit(mended) == [Accepted()], "repeated"
        assert await bench.commit(step(first)) == [Lost()]
        found = await held(bench)
        assert (found.head, found.activities, found.wake_at_us) == (mended.new_head, (1,), due_us)
        assert len(await bench.history("a", "r1")) == first.new_head.number
        assert (await bench.view("a")).status == "x"
        await bench.finish(finished(await bench.claim_activity()))
        task = await bench.claim_one("a")
        assert [one.key for one in task.messages] == ["activity/r1/1"]
        assert await bench.commit(step(task, consumed=(1,), seen=1)) == [Accepted()]

    async def test_a_checkpoint_without_events_takes_a_lease_away_and_keeps_what_is_unread(
        self, bench: Bench
    ) -> None:
        first = await bench.waiting("a", "r1")
        await bench.send(message("a", "k"))
        held_by_w1 = await bench.claim_one("a", "w1")
        mended = step(first, events=(), new_head=Head(number=first.new_head.number, token="mended"))
        (verdict,) = await bench.commit(mended)
        assert verdict == Accepted(unread=True)
        assert await bench.commit(step(held_by_w1, consumed=(1,), seen=1)) == [Lost()]
        assert [one.key for one in (await bench.claim_one("a", "w2")).messages] == ["k"]

    async def test_a_paused_run_stays_paused_under_a_checkpoint_without_events(self, bench: Bench) -> None:
        first = await bench.waiting("a")
        await bench.change(Pause(ref=A))
        head = Head(number=first.new_head.number, token="mended")
        await bench.commit(step(first, events=(), new_head=head, activities=(activity(1),)))
        assert (await bench.view("a")).state == "paused"
        assert (await held(bench)).activities == (1,)
        assert await bench.claim_activities() == [], "activities of paused runs are not handed out"

    async def test_an_answer_can_come_again_when_its_activity_was_made_again(self, bench: Bench) -> None:
        """The engine's own messages are no resends of clients: that one of this key came before is no reason."""
        await bench.waiting("a", "r1", activities=(activity(1),))
        await bench.finish(finished(await bench.claim_activity()))
        task = await bench.claim_one("a")
        lost = step(task, consumed=(1,), seen=1)
        assert await bench.commit(lost) == [Accepted()]
        head = Head(number=lost.new_head.number, token="mended")
        await bench.commit(step(lost, events=(), new_head=head, activities=(activity(1),)))
        await bench.finish(finished(await bench.claim_activity()))
        assert [one.key for one in (await bench.claim_one("a")).messages] == ["activity/r1/1"]

    async def test_a_client_that_takes_the_key_of_an_answer_does_not_keep_the_answer_away(
        self, bench: Bench
    ) -> None:
        await bench.waiting("a", "r1", activities=(activity(1),))
        await bench.send(message("a", "activity/r1/1"))
        await bench.finish(finished(await bench.claim_activity()))
        task = await bench.claim_one("a")
        assert [(one.key, one.kind) for one in task.messages] == [
            ("activity/r1/1", "signal"),
            ("activity/r1/1", "activity_completed"),
        ]
