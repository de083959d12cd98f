"""Laws of claiming runs: who gets what, in which order, how often, and what never blocks whom (I28, I29)."""

from __future__ import annotations

import asyncio

from durable.backends.records import (
    MAX_CLAIMS,
    Accepted,
    Definition,
    InstanceRef,
    Pause,
    Resume,
    WorkflowTask,
)
from durable.testing.conformance.bench import Bench
from durable.testing.conformance.clock import MINUTE, SECOND
from durable.testing.conformance.laws import Laws
from durable.testing.conformance.specimens import (
    done,
    ended,
    held,
    message,
    new,
    step,
    workflow_lease,
)


class ClaimLaws(Laws):
    """`WorkerStore.claim_workflow_tasks`."""

    async def test_a_claim_hands_out_the_run_as_it_stands(self, bench: Bench) -> None:
        at = await bench.start("a", "r1", events=(b"one", b"three"), timeout_us=3600 * SECOND)
        task = await bench.claim_one("a")
        view = await bench.view("a")
        assert (task.run_id, task.workflow, task.version, task.queue) == ("r1", "Order", "", "default")
        assert (task.state, task.head, task.history_bytes) == ("running", at.head, 8)
        assert (task.messages, task.seen, task.claims) == ((), 0, 1)
        assert (task.parent, task.wake_at_us, task.first_run_id) == (None, None, "r1")
        assert task.deadline_us == view.deadline_us

    async def test_a_task_that_brings_events_brings_all_of_them(self, bench: Bench) -> None:
        await bench.start("new", events=(b'{"first": "\xc3\xa4"}',))
        await bench.start("two", events=(b"one", b"two"))
        await bench.commit(step(await bench.start("begun", events=(b"one",)), events=(b"two", b"three")))
        await bench.send(message("begun"))
        for task in await bench.claim():
            stored = await bench.history(task.instance_id, task.run_id)
            assert len(stored) == task.head.number
            assert task.events is None or task.events == stored

    async def test_a_claimed_run_is_not_handed_to_others(self, bench: Bench) -> None:
        await bench.start("a")
        await bench.claim_one("a", "w1")
        assert await bench.claim("w2") == []

    async def test_a_run_that_waits_is_not_handed_out(self, bench: Bench) -> None:
        await bench.waiting("a")
        answer = await bench.claim_answer()
        assert (list(answer.items), answer.next_wake_us) == ([], None)

    async def test_finished_and_paused_runs_are_not_handed_out(self, bench: Bench) -> None:
        await bench.commit(done(await bench.start("a")))
        await bench.start("b")
        await bench.change(Pause(ref=InstanceRef(instance_id="b")))
        assert await bench.claim() == []

    async def test_no_more_than_the_limit_are_handed_out(self, bench: Bench) -> None:
        for n in range(7):
            await bench.start(f"i{n}")
        assert [len(await bench.claim(f"w{n}", limit=3)) for n in range(4)] == [3, 3, 1, 0]

    async def test_a_claim_with_limit_zero_takes_nothing(self, bench: Bench) -> None:
        await bench.start("a")
        assert await bench.claim(limit=0) == []
        assert (await bench.claim_one("a")).claims == 1

    async def test_the_longest_ready_comes_first(self, bench: Bench) -> None:
        bench.under_test.needs_clock()
        for name in ("c", "a", "d", "b"):
            await bench.start(name)
            await bench.advance(1)
        assert [task.instance_id for task in await bench.claim(limit=3)] == ["c", "a", "d"]

    async def test_a_busy_instance_does_not_overtake_one_that_waits_longer(self, bench: Bench) -> None:
        bench.under_test.needs_clock()
        busy = await bench.waiting("busy")
        await bench.waiting("quiet")
        await bench.advance(1)
        await bench.send(message("quiet"))
        for _ in range(5):
            await bench.advance(1)
            await bench.send(message("busy"))
        busy = step(busy, consumed=(1,), seen=1)
        await bench.commit(busy)
        assert [task.instance_id for task in await bench.claim(limit=1)] == ["quiet"]

    async def test_timers_count_as_ready_from_their_due_time(self, bench: Bench) -> None:
        clock = bench.under_test.needs_clock()
        await bench.waiting("late", wake_at_us=clock.now_us + 2 * SECOND)
        await bench.waiting("early", wake_at_us=clock.now_us + SECOND)
        await bench.advance(MINUTE)
        await bench.start("new")
        assert [task.instance_id for task in await bench.claim()] == ["early", "late", "new"]

    async def test_only_the_queues_of_the_claimant_are_served(self, bench: Bench) -> None:
        await bench.start("a", queue="gpu")
        await bench.start("b")
        assert await bench.claim(queues=("Default", "gp")) == []
        assert [task.instance_id for task in await bench.claim(queues=("gpu",))] == ["a"]
        assert [task.instance_id for task in await bench.claim(queues=("gpu", "default"))] == ["b"]

    async def test_only_definitions_that_the_claimant_has_are_handed_out(self, bench: Bench) -> None:
        await bench.start("a", version="2")
        assert await bench.claim() == []
        assert await bench.claim(workflows=()) == []
        assert await bench.claim(workflows=(Definition(workflow="order", version="2"),)) == []
        assert len(await bench.claim(workflows=(Definition(workflow="Order", version="2", build="x"),))) == 1

    async def test_runs_of_unknown_workflows_wait_untouched_and_block_nobody(self, bench: Bench) -> None:
        for n in range(200):
            await bench.start(f"unknown{n}", workflow=f"Unknown{n % 20}")
        before = await bench.view("unknown0")
        await bench.start("mine")
        answer = await bench.claim_answer(limit=5)
        assert [getattr(item, "instance_id", None) for item in answer.items] == ["mine"]
        assert await bench.view("unknown0") == before
        theirs = await bench.claim(workflows=(Definition(workflow="Unknown0"),))
        assert [task.claims for task in theirs] == [1] * 10

    async def test_unknown_workflows_do_not_wake_the_claimant(self, bench: Bench) -> None:
        await bench.start("unknown", workflow="Unknown")
        assert (await bench.claim_answer()).next_wake_us is None

    async def test_the_next_wake_up_is_the_earliest_of_those_that_the_claimant_can_take(
        self, bench: Bench
    ) -> None:
        clock = bench.under_test.needs_clock()
        await bench.waiting("a", wake_at_us=clock.now_us + 3 * SECOND)
        await bench.waiting("b", wake_at_us=clock.now_us + 2 * SECOND)
        await bench.start("c", workflow="Unknown", start_at_us=clock.now_us + SECOND)
        assert (await bench.claim_answer()).next_wake_us == clock.now_us + 2 * SECOND

    async def test_of_many_claimants_at_once_each_run_goes_to_one(self, bench: Bench) -> None:
        for n in range(40):
            await bench.start(f"i{n}")
        answers = await asyncio.gather(*(bench.claim(f"w{n}", limit=10) for n in range(8)))
        handed_out = [task.instance_id for tasks in answers for task in tasks]
        assert len(handed_out) == len(set(handed_out))
        handed_out += [task.instance_id for task in await bench.claim("rest")]
        assert sorted(handed_out) == sorted(f"i{n}" for n in range(40))

    async def test_its_own_worker_is_handed_a_run_again_when_it_has_become_ready(self, bench: Bench) -> None:
        await bench.start("a")
        task = await bench.claim_one("a", "w1")
        kept = step(task, lease=held("w1", bench.lease_us))
        await bench.commit(kept)
        assert await bench.claim("w1") == []
        await bench.send(message("a", "k"))
        assert await bench.claim("w2") == []
        again = await bench.claim_one("a", "w1")
        assert [m.key for m in again.messages] == ["k"]

    async def test_a_timer_that_comes_after_the_claim_makes_the_run_ready_for_its_own_worker(
        self, bench: Bench
    ) -> None:
        clock = bench.under_test.needs_clock()
        due = clock.now_us + SECOND
        await bench.waiting("a", wake_at_us=due)
        await bench.send(message("a", "k"))
        answer = await bench.claim_answer("w1")
        assert (len(answer.items), answer.next_wake_us) == (1, due)
        await bench.advance(SECOND)
        assert await bench.claim("w2") == []
        assert (await bench.claim_one("a", "w1")).wake_at_us == due

    async def test_a_claim_repeated_with_its_token_gets_the_same_and_counts_once(self, bench: Bench) -> None:
        """Its reply was lost."""
        for name in "abc":
            await bench.start(name)
            await bench.advance(1)
        claim = bench.claimant("w1")
        first = await bench.store.claim_workflow_tasks(claim, 2)
        again = await bench.store.claim_workflow_tasks(claim, 2)
        assert list(again.items) == list(first.items)
        assert [task.claims for task in first.items if isinstance(task, WorkflowTask)] == [1, 1]
        assert [task.instance_id for task in await bench.claim("w1")] == ["c"], "a new claim is another"

    async def test_a_run_left_by_its_worker_is_handed_to_others_whatever_it_waits_for(
        self, bench: Bench
    ) -> None:
        """What it waited for may have died with the worker."""
        await bench.waiting("a", lease=held("w1", bench.lease_us))
        assert await bench.claim("w2") == []
        await bench.outlive_lease()
        await bench.claim_one("a", "w2")

    async def test_claims_are_counted_and_an_accepted_checkpoint_resets_the_count(self, bench: Bench) -> None:
        at = await bench.start("a")
        for count in (1, 2, 3):
            assert (await bench.claim_one("a", f"w{count}")).claims == count
            await bench.outlive_lease()
        await bench.commit(step(at))
        await bench.send(message("a"))
        assert (await bench.claim_one("a")).claims == 1

    async def test_a_lost_checkpoint_does_not_reset_the_count(self, bench: Bench) -> None:
        at = await bench.start("a")
        await bench.claim_one("a")
        await bench.commit(step(new(at.instance_id, at.run_id)))
        await bench.outlive_lease()
        assert (await bench.claim_one("a")).claims == 2

    async def test_a_run_that_was_claimed_ten_times_in_vain_is_stalled(self, bench: Bench) -> None:
        """It kills its workers; the next one is spared."""
        await bench.start("a")
        for count in range(1, MAX_CLAIMS + 1):
            assert (await bench.claim_one("a", f"w{count}")).claims == count
            await bench.outlive_lease()
        assert await bench.claim("w11") == []
        view = await bench.view("a")
        assert view.state == "stalled"
        assert view.problem is not None and view.problem.report != ""
        await bench.send(message("a"))
        assert await bench.claim("w12") == []

    async def test_news_for_the_worker_that_holds_a_run_are_not_counted(self, bench: Bench) -> None:
        """It is alive, however many signals come in while it works."""
        await bench.start("a")
        assert (await bench.claim_one("a", "w1")).claims == 1
        for n in range(2 * MAX_CLAIMS):
            await bench.send(message("a", key=f"k{n}"))
            assert (await bench.claim_one("a", "w1")).claims == 1

    async def test_a_poisoned_run_does_not_keep_the_others_of_its_claim(self, bench: Bench) -> None:
        await bench.start("poison")
        for count in range(MAX_CLAIMS):
            await bench.claim_one("poison", f"w{count}")
            await bench.outlive_lease()
        await bench.start("healthy")
        assert [task.instance_id for task in await bench.claim("w11", limit=1)] == ["healthy"]

    async def test_giving_back_takes_back_the_claim(self, bench: Bench) -> None:
        await bench.start("a")
        for _ in range(3 * MAX_CLAIMS):
            task = await bench.claim_one("a")
            assert task.claims == 1
            assert await bench.release(workflow_lease(task, "w1")) == [Accepted()]

    async def test_a_stalled_run_that_is_resumed_is_counted_anew(self, bench: Bench) -> None:
        await bench.start("a")
        for count in range(MAX_CLAIMS):
            await bench.claim_one("a", f"w{count}")
            await bench.outlive_lease()
        await bench.claim("w11")
        await bench.change(Resume(ref=InstanceRef(instance_id="a")))
        assert (await bench.claim_one("a", "w12")).claims == 1

    async def test_an_overdue_run_is_handed_to_any_worker_and_needs_no_code(self, bench: Bench) -> None:
        clock = bench.under_test.needs_clock()
        await bench.waiting("a", "r1")
        await bench.commit(done(await bench.start("b", timeout_us=SECOND)))
        await bench.start("c", "r1", timeout_us=SECOND, start_at_us=clock.now_us + MINUTE)
        due = clock.now_us + SECOND
        await bench.advance(SECOND - 1)
        assert await bench.claim_overdue(workflows=()) == []
        await bench.advance(1)
        (overdue,) = await bench.claim_overdue(workflows=(), queues=("another",))
        assert (overdue.instance_id, overdue.run_id, overdue.deadline_us) == ("c", "r1", due)
        assert (overdue.workflow, overdue.parent) == ("Order", None)

    async def test_an_overdue_run_is_leased_and_comes_back_until_it_is_ended(self, bench: Bench) -> None:
        bench.under_test.needs_clock()
        await bench.start("a", timeout_us=SECOND)
        await bench.advance(SECOND)
        assert len(await bench.claim_overdue("w1")) == 1
        assert await bench.claim_overdue("w2") == []
        await bench.outlive_lease()
        (overdue,) = await bench.claim_overdue("w2")
        await bench.change(ended(overdue.instance_id, overdue.run_id))
        await bench.outlive_lease()
        assert await bench.claim_overdue("w3") == []

    async def test_a_run_that_a_worker_holds_without_its_code_does_not_wake_it(self, bench: Bench) -> None:
        await bench.waiting("a", lease=held("w1", bench.lease_us))
        await bench.send(message("a"))
        answer = await bench.claim_answer("w1", workflows=())
        assert (list(answer.items), answer.next_wake_us) == ([], None)

    async def test_a_deadline_is_announced_as_the_next_wake_up(self, bench: Bench) -> None:
        at = await bench.start("a", timeout_us=SECOND)
        await bench.commit(step(at))
        assert (await bench.claim_answer()).next_wake_us == (await bench.view("a")).deadline_us
