"""Laws of changes by people: they need no worker and no code, and can be repeated (I3, I4, I22)."""

from __future__ import annotations

import asyncio

from durable.backends.records import (
    Accepted,
    ActivityTask,
    Close,
    Finished,
    InstanceRef,
    Lost,
    NotFound,
    Pause,
    Paused,
    Resume,
)
from durable.testing.conformance.bench import Bench
from durable.testing.conformance.laws import Laws
from durable.testing.conformance.specimens import (
    activity,
    continued,
    done,
    ended,
    finished,
    message,
    step,
)

A = InstanceRef(instance_id="a")
MANY = 5_000


class ChangeLaws(Laws):
    """`ClientStore.change` with `Pause`, `Resume` and `End`."""

    async def test_a_paused_run_can_be_seen_to_be_paused(self, bench: Bench) -> None:
        await bench.start("a")
        assert await bench.change(Pause(ref=A, reason="audit")) == [Accepted()]
        view = await bench.view("a")
        assert (view.state, view.reason) == ("paused", "audit")
        await bench.change(Resume(ref=A))
        assert (await bench.view("a")).state == "running"

    async def test_pausing_and_resuming_twice_has_the_effect_of_once(self, bench: Bench) -> None:
        await bench.waiting("a")
        assert await bench.change(Pause(ref=A), Pause(ref=A)) == [Accepted(), Accepted()]
        assert await bench.change(Resume(ref=A), Resume(ref=A)) == [Accepted(), Accepted()]
        assert (await bench.view("a")).state == "running"

    async def test_a_message_to_a_paused_run_waits_for_it(self, bench: Bench) -> None:
        await bench.waiting("a")
        await bench.change(Pause(ref=A))
        assert await bench.send(message("a", "k")) == [Accepted()]
        assert await bench.claim() == []
        await bench.change(Resume(ref=A))
        assert [m.key for m in (await bench.claim_one("a")).messages] == ["k"]

    async def test_a_resumed_run_is_ready(self, bench: Bench) -> None:
        await bench.waiting("a")
        await bench.change(Pause(ref=A))
        await bench.change(Resume(ref=A))
        await bench.claim_one("a")

    async def test_resuming_a_run_that_was_not_paused_does_not_make_it_ready(self, bench: Bench) -> None:
        await bench.waiting("a")
        assert await bench.change(Resume(ref=A)) == [Accepted()]
        assert (await bench.view("a")).state == "running"

    async def test_a_timer_of_a_paused_run_fires_after_it_was_resumed(self, bench: Bench) -> None:
        clock = bench.under_test.needs_clock()
        await bench.waiting("a", wake_at_us=clock.now_us + 1)
        await bench.change(Pause(ref=A))
        await bench.advance(2)
        assert await bench.claim() == []
        await bench.change(Resume(ref=A))
        assert (await bench.claim_one("a")).wake_at_us == clock.now_us - 1

    async def test_what_is_claimed_beside_a_pause_is_claimed_once_and_stays_so(self, bench: Bench) -> None:
        """An attempt whose lease a pause had overwritten would be begun by a second worker."""
        count = 30
        await bench.waiting("a", activities=tuple(activity(n) for n in range(1, count + 1)))
        claimed: list[ActivityTask] = []

        async def claims(worker_id: str) -> None:
            for _ in range(MANY):
                if len(claimed) >= count:
                    break
                claimed.extend(await bench.claim_activities(worker_id, limit=2))
                await asyncio.sleep(0)

        async def pauses() -> None:
            while len(claimed) < count:
                await bench.change(Pause(ref=A))
                await bench.change(Resume(ref=A))
                await asyncio.sleep(0)

        pausing = asyncio.create_task(pauses())
        await asyncio.gather(claims("w1"), claims("w2"))
        pausing.cancel()
        await asyncio.wait([pausing])
        await bench.change(Resume(ref=A))
        assert sorted(task.ref.number for task in claimed) == list(range(1, count + 1))
        assert await bench.finish(*(finished(task) for task in claimed)) == [Accepted()] * count

    async def test_a_worker_with_the_run_may_finish_it_while_it_is_paused(self, bench: Bench) -> None:
        at = await bench.start("a")
        await bench.change(Pause(ref=A))
        (verdict,) = await bench.commit(done(at))
        assert isinstance(verdict, Accepted | Paused)
        assert (await bench.view("a")).state == "completed"

    async def test_changes_of_nobody_and_of_the_finished_say_so(self, bench: Bench) -> None:
        await bench.commit(done(await bench.start("a")))
        nobody = InstanceRef(instance_id="nobody")
        for change in (Pause(ref=nobody), Resume(ref=nobody), ended("nobody"), ended("a", "no such run")):
            assert await bench.change(change) == [NotFound()]
        for change in (Pause(ref=A), Resume(ref=A), ended("a")):
            assert await bench.change(change) == [Finished(state="completed")]

    async def test_a_run_is_ended_from_outside(self, bench: Bench) -> None:
        at = await bench.waiting("a", "r1")
        end = ended("a", reason="by hand")
        assert await bench.change(end) == [Accepted()]
        view = await bench.view("a")
        assert (view.state, view.failure, view.reason) == ("terminated", "stopped", "by hand")
        assert (view.head.number, view.head.token) == (3, end.token)
        assert view.closed_at_us is not None
        assert await bench.history("a", "r1") == (b"started", b"waiting", b"terminated")
        assert await bench.commit(step(at)) == [Lost()]
        assert await bench.claim() == []

    async def test_ending_twice_with_the_same_token_is_accepted_once(self, bench: Bench) -> None:
        await bench.start("a", "r1")
        end, other = ended("a"), ended("a")
        assert await bench.change(end, end) == [Accepted(), Accepted()]
        assert await bench.change(end, other) == [Accepted(), Finished(state="terminated")]
        assert len(await bench.history("a", "r1")) == 2

    async def test_ending_drops_unread_messages_and_answers_later_ones(self, bench: Bench) -> None:
        await bench.waiting("a")
        await bench.send(message("a"))
        assert await bench.change(ended("a")) == [Accepted()]
        assert await bench.send(message("a")) == [Finished(state="terminated")]

    async def test_a_paused_run_can_be_ended(self, bench: Bench) -> None:
        await bench.start("a")
        await bench.change(Pause(ref=A))
        assert await bench.change(ended("a")) == [Accepted()]

    async def test_only_the_current_run_can_be_ended(self, bench: Bench) -> None:
        await bench.commit(continued(await bench.start("a", "r1"), "r2"))
        assert await bench.change(ended("a", "r1")) == [Finished(state="continued_as_new")]
        assert (await bench.view("a")).state == "running"
        assert await bench.change(ended("a", "r2")) == [Accepted()]

    async def test_a_run_that_timed_out_ends_as_failed(self, bench: Bench) -> None:
        await bench.start("a")
        await bench.change(ended("a", close=Close(state="failed", failure='"late"')))
        view = await bench.view("a")
        assert (view.state, view.failure) == ("failed", '"late"')
