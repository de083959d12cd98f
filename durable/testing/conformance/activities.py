"""Laws of activity tasks: one row, one token at a time, one outcome (I6, I8, I20, I21)."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from durable.backends.records import (
    Accepted,
    ActivityParked,
    ActivityRetry,
    InstanceRef,
    Lost,
    Pause,
    Resume,
)
from durable.testing.conformance.bench import Bench
from durable.testing.conformance.clock import HOUR, MINUTE, SECOND
from durable.testing.conformance.laws import Laws
from durable.testing.conformance.specimens import (
    activity,
    activity_ref,
    continued,
    done,
    ended,
    finished,
    message,
    step,
)


class ActivityLaws(Laws):
    """`claim_activity_tasks`, `finish_activities`, and what checkpoints do with activities."""

    async def test_a_scheduled_activity_is_handed_out_as_it_was_made(self, bench: Bench) -> None:
        at = await bench.waiting("a", activities=(activity(3, payload='["\x00"]', options='{"x":1}'),))
        task = await bench.claim_activity()
        assert task.ref == activity_ref(at, 3)
        assert (task.name, task.queue, task.workflow) == ("charge", "default", "Order")
        assert (task.payload, task.options) == ('["\x00"]', '{"x":1}')
        assert (task.attempt, task.deliveries, task.details, task.failure) == (1, 1, None, None)
        assert not task.expired
        assert task.scheduled_at_us <= await bench.now()

    async def test_only_names_and_queues_of_the_claimant_are_handed_out(self, bench: Bench) -> None:
        await bench.waiting("a", activities=(activity(1, queue="gpu"), activity(2, name="refund")))
        assert await bench.claim_activities() == []
        assert await bench.claim_activities(activities=("Charge", "charge "), queues=("gpu",)) == []
        (task,) = await bench.claim_activities(queues=("gpu", "x"))
        assert task.ref.number == 1
        (task,) = await bench.claim_activities(activities=("refund",), workflows=())
        assert task.ref.number == 2

    async def test_no_more_than_the_limit_longest_ready_first(self, bench: Bench) -> None:
        bench.under_test.needs_clock()
        for name in ("c", "a", "b"):
            await bench.scheduled(name)
            await bench.advance(1)
        assert [task.ref.instance_id for task in await bench.claim_activities(limit=2)] == ["c", "a"]
        assert [task.ref.instance_id for task in await bench.claim_activities(limit=2)] == ["b"]

    async def test_of_many_claimants_at_once_each_attempt_goes_to_one(self, bench: Bench) -> None:
        await bench.waiting("a", activities=tuple(activity(n) for n in range(1, 41)))
        claims = await asyncio.gather(*(bench.claim_activities(f"w{n}", limit=10) for n in range(8)))
        numbers = [task.ref.number for tasks in claims for task in tasks]
        numbers += [task.ref.number for task in await bench.claim_activities("rest")]
        assert sorted(numbers) == list(range(1, 41))

    async def test_a_result_goes_to_its_run_and_the_row_goes(self, bench: Bench) -> None:
        await bench.scheduled("a")
        task = await bench.claim_activity()
        assert await bench.finish(finished(task, kind="activity_failed", body="{}")) == [Accepted()]
        (got,) = await bench.unread("a")
        assert (got.kind, got.body) == ("activity_failed", "{}")
        assert got.key == f"activity/{task.ref.run_id}/1"
        await bench.outlive_lease()
        assert await bench.claim_activities() == []
        assert (await bench.store.stats()).activity_tasks.get("default", 0) == 0

    async def test_a_repeated_result_arrives_once(self, bench: Bench) -> None:
        await bench.scheduled("a")
        outcome = finished(await bench.claim_activity())
        assert await bench.finish(outcome) == [Accepted()]
        (again,) = await bench.finish(outcome)
        assert again in (Accepted(), Lost())
        assert len(await bench.unread("a")) == 1

    async def test_a_second_result_of_the_same_attempt_is_lost(self, bench: Bench) -> None:
        await bench.scheduled("a")
        task = await bench.claim_activity()
        await bench.finish(finished(task, body="1"))
        assert await bench.finish(finished(task, kind="activity_failed", body="2")) == [Lost()]
        assert [m.body for m in await bench.unread("a")] == ["1"]

    async def test_two_workers_with_the_same_attempt_give_one_result(self, bench: Bench) -> None:
        await bench.scheduled("a")
        first = await bench.claim_activity("w1")
        await bench.outlive_lease()
        second = await bench.claim_activity("w2")
        verdicts = await asyncio.gather(bench.finish(finished(first)), bench.finish(finished(second)))
        assert [list(each) for each in verdicts] == [[Lost()], [Accepted()]]
        assert len(await bench.unread("a")) == 1

    async def test_a_result_is_taken_after_the_lease_ran_out_if_nobody_took_over(self, bench: Bench) -> None:
        """The token is what counts, not the lease."""
        await bench.scheduled("a")
        task = await bench.claim_activity()
        await bench.outlive_lease()
        assert await bench.finish(finished(task)) == [Accepted()]

    async def test_a_result_is_kept_by_the_run_even_after_it_was_read(self, bench: Bench) -> None:
        at = await bench.scheduled("a")
        task = await bench.claim_activity()
        await bench.finish(finished(task))
        await bench.commit(step(at, consumed=(1,), seen=1))
        await bench.finish(finished(task))
        assert await bench.claim() == []

    async def test_a_result_for_an_activity_that_there_is_not_is_lost(self, bench: Bench) -> None:
        at = await bench.scheduled("a")
        task = await bench.claim_activity()
        for ref in (
            activity_ref(at, 2),
            replace(task.ref, run_id="other"),
            replace(task.ref, instance_id="b"),
        ):
            assert await bench.finish(finished(task, ref=ref)) == [Lost()]
        assert await bench.claim() == []

    async def test_a_failed_attempt_is_tried_again_after_its_delay(self, bench: Bench) -> None:
        bench.under_test.needs_clock()
        await bench.scheduled("a")
        task = await bench.claim_activity()
        retry = ActivityRetry(ref=task.ref, token=task.token, delay_us=MINUTE, failure='"boom"')
        assert await bench.finish(retry) == [Accepted()]
        await bench.advance(MINUTE - 1)
        answer = await bench.store.claim_activity_tasks(bench.claimant(), 10)
        assert (list(answer.items), answer.next_wake_us) == ([], answer.now_us + 1)
        await bench.advance(1)
        again = await bench.claim_activity()
        assert (again.attempt, again.deliveries, again.failure) == (2, 1, '"boom"')
        assert await bench.claim() == []

    async def test_a_repeated_retry_counts_one_attempt(self, bench: Bench) -> None:
        await bench.scheduled("a")
        task = await bench.claim_activity()
        retry = ActivityRetry(ref=task.ref, token=task.token, delay_us=0, failure='"boom"')
        await bench.finish(retry)
        await bench.finish(retry)
        assert (await bench.claim_activity()).attempt == 2
        await bench.finish(retry)
        assert await bench.claim_activities() == []

    async def test_the_token_of_an_attempt_ends_with_it(self, bench: Bench) -> None:
        await bench.scheduled("a")
        task = await bench.claim_activity()
        await bench.finish(ActivityRetry(ref=task.ref, token=task.token, delay_us=0, failure='"boom"'))
        assert await bench.finish(finished(task)) == [Lost()]
        assert (await bench.claim_activity()).attempt == 2

    async def test_deliveries_of_an_attempt_are_counted(self, bench: Bench) -> None:
        await bench.scheduled("a")
        for count in (1, 2, 3):
            task = await bench.claim_activity(f"w{count}")
            assert (task.attempt, task.deliveries) == (1, count)
            await bench.outlive_lease()

    async def test_a_withdrawn_activity_is_gone(self, bench: Bench) -> None:
        at = await bench.waiting("a", activities=(activity(1), activity(2)))
        await bench.commit(step(at, withdrawn=(1, 7)))
        task = await bench.claim_activity()
        assert task.ref.number == 2
        gone = replace(task, ref=activity_ref(at, 1))
        assert await bench.finish(finished(gone)) == [Lost()]

    async def test_the_activities_of_a_finished_run_are_gone(self, bench: Bench) -> None:
        closed, continuing = await bench.scheduled("a"), await bench.scheduled("b")
        await bench.scheduled("c")
        tasks = await bench.claim_activities()
        await bench.commit(done(closed), continued(continuing))
        await bench.change(ended("c"))
        assert await bench.finish(*(finished(task) for task in tasks)) == [Lost()] * 3
        await bench.outlive_lease()
        assert await bench.claim_activities() == []

    async def test_the_activities_of_a_paused_run_are_not_handed_out(self, bench: Bench) -> None:
        await bench.waiting("a", activities=(activity(1), activity(2)))
        (running,) = await bench.claim_activities(limit=1)
        await bench.change(Pause(ref=InstanceRef(instance_id="a")))
        assert await bench.claim_activities() == []
        assert await bench.finish(finished(running)) == [Accepted()], "what runs may finish"
        await bench.change(Resume(ref=InstanceRef(instance_id="a")))
        assert len(await bench.claim_activities()) == 1

    async def test_an_activity_that_nobody_claims_in_time_is_handed_to_anyone_as_expired(
        self, bench: Bench
    ) -> None:
        bench.under_test.needs_clock()
        await bench.waiting("a", activities=(activity(1, queue="gpu", queue_timeout_us=MINUTE),))
        await bench.advance(MINUTE - 1)
        assert await bench.claim_activities(activities=()) == []
        await bench.advance(1)
        (task,) = await bench.claim_activities(activities=())
        assert task.expired
        assert await bench.finish(finished(task, kind="activity_failed")) == [Accepted()]

    async def test_the_time_in_the_queue_ends_with_the_first_claim(self, bench: Bench) -> None:
        bench.under_test.needs_clock()
        await bench.waiting("a", activities=(activity(1, queue_timeout_us=MINUTE),))
        await bench.claim_activity()
        await bench.advance(HOUR)
        assert await bench.claim_activities(activities=()) == []
        task = await bench.claim_activity()
        assert not task.expired
        await bench.finish(ActivityRetry(ref=task.ref, token=task.token, delay_us=0, failure="{}"))
        await bench.advance(HOUR)
        assert not (await bench.claim_activity()).expired

    async def test_a_parked_activity_waits_for_who_knows_its_token(self, bench: Bench) -> None:
        bench.under_test.needs_clock()
        await bench.scheduled("a")
        task = await bench.claim_activity()
        park = ActivityParked(ref=task.ref, token=task.token, new_token="secret")
        assert await bench.finish(park) == [Accepted()]
        await bench.advance(1_000 * HOUR)
        assert await bench.claim_activities() == []
        assert await bench.finish(finished(task)) == [Lost()]
        assert await bench.finish(finished(task, token="secret")) == [Accepted()]
        assert len(await bench.unread("a")) == 1

    async def test_a_parked_activity_that_nobody_finishes_in_time_expires(self, bench: Bench) -> None:
        bench.under_test.needs_clock()
        await bench.scheduled("a")
        task = await bench.claim_activity()
        park = ActivityParked(ref=task.ref, token=task.token, new_token="secret", timeout_us=5 * SECOND)
        await bench.finish(park)
        await bench.advance(5 * SECOND - 1)
        assert await bench.claim_activities(activities=()) == []
        await bench.advance(1)
        (expired,) = await bench.claim_activities(activities=())
        assert expired.expired
        assert await bench.finish(finished(task, token="secret")) == [Lost()]

    async def test_parking_twice_has_the_effect_of_once(self, bench: Bench) -> None:
        await bench.scheduled("a")
        task = await bench.claim_activity()
        park = ActivityParked(ref=task.ref, token=task.token, new_token="secret")
        await bench.finish(park)
        await bench.finish(park)
        assert await bench.finish(finished(task, token="secret")) == [Accepted()]

    async def test_a_claim_repeated_with_its_token_gets_the_same_and_counts_once(self, bench: Bench) -> None:
        """Its reply was lost."""
        await bench.waiting("a", activities=(activity(1), activity(2), activity(3)))
        claim = bench.claimant("w1")
        first = await bench.store.claim_activity_tasks(claim, 2)
        again = await bench.store.claim_activity_tasks(claim, 2)
        assert list(again.items) == list(first.items)
        assert [task.deliveries for task in first.items] == [1, 1]

    async def test_results_of_many_activities_in_one_call_all_arrive(self, bench: Bench) -> None:
        await bench.waiting("a", activities=tuple(activity(n) for n in range(1, 51)))
        tasks = await bench.claim_activities()
        assert await bench.finish(*(finished(t, body=str(t.ref.number)) for t in tasks)) == [Accepted()] * 50
        assert [m.body for m in await bench.unread("a")] == [str(t.ref.number) for t in tasks]

    async def test_a_result_makes_a_leased_run_ready_for_its_worker(self, bench: Bench) -> None:
        await bench.scheduled("a")
        await bench.send(message("a"))
        run = await bench.claim_one("a", "w1")
        task = await bench.claim_activity("w1")
        await bench.finish(finished(task))
        again = await bench.claim_one("a", "w1")
        assert (len(run.messages), len(again.messages)) == (1, 2)
