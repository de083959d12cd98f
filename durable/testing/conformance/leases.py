"""Laws of leases: hints that keep others away for a while, and by which nothing that is written is right or wrong.

I9, I10; the zombie: a worker that was paused until its lease was taken comes back with six late calls.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from durable.backends.records import (
    Accepted,
    ActivityOutcome,
    ActivityParked,
    ActivityRetry,
    Cancelled,
    Extended,
    Lost,
    Problem,
    Stall,
)
from durable.testing.conformance.bench import Bench
from durable.testing.conformance.clock import SECOND
from durable.testing.conformance.laws import Laws
from durable.testing.conformance.specimens import (
    activity,
    activity_lease,
    done,
    ended,
    finished,
    held,
    message,
    step,
    workflow_lease,
)


class LeaseLaws(Laws):
    """`WorkerStore.extend` and `WorkerStore.release`."""

    async def test_a_lease_ends_on_its_microsecond(self, bench: Bench) -> None:
        bench.under_test.needs_clock()
        await bench.start("a")
        await bench.claim_one("a", "w1")
        await bench.advance(bench.lease_us - 1)
        assert await bench.claim("w2") == []
        await bench.advance(1)
        assert (await bench.claim_one("a", "w2")).claims == 2

    async def test_an_extended_lease_is_counted_from_the_stores_time(self, bench: Bench) -> None:
        bench.under_test.needs_clock()
        await bench.start("a")
        task = await bench.claim_one("a", "w1")
        await bench.advance(bench.lease_us - 1)
        assert await bench.extend(workflow_lease(task, "w1", 5 * SECOND)) == [Extended()]
        await bench.advance(5 * SECOND - 1)
        assert await bench.claim("w2") == []
        await bench.advance(1)
        await bench.claim_one("a", "w2")

    async def test_a_lease_that_ran_out_and_was_not_taken_is_renewed(self, bench: Bench) -> None:
        await bench.start("a")
        task = await bench.claim_one("a", "w1")
        await bench.outlive_lease()
        assert await bench.extend(workflow_lease(task, "w1", bench.lease_us)) == [Extended()]
        assert await bench.claim("w2") == []

    async def test_a_lease_that_another_has_is_lost(self, bench: Bench) -> None:
        await bench.start("a")
        task = await bench.claim_one("a", "w1")
        await bench.outlive_lease()
        await bench.claim_one("a", "w2")
        assert await bench.extend(workflow_lease(task, "w1", bench.lease_us)) == [Lost()]
        assert await bench.release(workflow_lease(task, "w1")) == [Lost()]
        assert await bench.claim("w3") == [], "the lease of w2 stands"

    async def test_the_lease_of_a_finished_run_is_not_renewed(self, bench: Bench) -> None:
        await bench.start("a")
        task = await bench.claim_one("a", "w1")
        await bench.commit(done(task))
        assert await bench.extend(workflow_lease(task, "w1", bench.lease_us)) == [Cancelled()]

    async def test_a_checkpoint_ends_the_lease_or_keeps_it(self, bench: Bench) -> None:
        await bench.start("a")
        task = await bench.claim_one("a", "w1")
        kept = step(task, lease=held("w1", bench.lease_us))
        await bench.commit(kept)
        await bench.send(message("a"))
        assert await bench.claim("w2") == []
        await bench.commit(step(kept))
        await bench.claim_one("a", "w2")

    async def test_what_is_given_back_is_ready_at_once(self, bench: Bench) -> None:
        await bench.start("a")
        task = await bench.claim_one("a", "w1")
        assert await bench.release(workflow_lease(task, "w1")) == [Accepted()]
        assert (await bench.claim_one("a", "w2")).claims == 1

    async def test_only_the_holder_gives_back(self, bench: Bench) -> None:
        await bench.start("a")
        task = await bench.claim_one("a", "w1")
        assert await bench.release(workflow_lease(task, "w2")) == [Lost()]
        assert await bench.claim("w3") == []

    async def test_giving_back_twice_has_the_effect_of_once(self, bench: Bench) -> None:
        await bench.start("a")
        task = await bench.claim_one("a", "w1")
        await bench.outlive_lease()
        task = await bench.claim_one("a", "w1")
        await bench.release(workflow_lease(task, "w1"))
        await bench.release(workflow_lease(task, "w1"))
        assert (await bench.claim_one("a", "w2")).claims == 2

    async def test_a_claimed_activity_is_leased_on_the_microsecond(self, bench: Bench) -> None:
        bench.under_test.needs_clock()
        await bench.scheduled("a")
        await bench.claim_activity("w1")
        await bench.advance(bench.lease_us - 1)
        assert await bench.claim_activities("w2") == []
        await bench.advance(1)
        assert (await bench.claim_activity("w2")).deliveries == 2

    async def test_a_heartbeat_renews_the_lease_and_keeps_its_details_for_the_next(
        self, bench: Bench
    ) -> None:
        bench.under_test.needs_clock()
        await bench.scheduled("a")
        task = await bench.claim_activity("w1")
        assert task.details is None
        await bench.advance(bench.lease_us - 1)
        assert await bench.extend(activity_lease(task, bench.lease_us, "half")) == [Extended()]
        assert await bench.extend(activity_lease(task, bench.lease_us)) == [Extended()]
        await bench.advance(bench.lease_us - 1)
        assert await bench.claim_activities("w2") == []
        await bench.advance(1)
        assert (await bench.claim_activity("w2")).details == "half"

    async def test_a_heartbeat_without_the_right_token_is_lost(self, bench: Bench) -> None:
        await bench.scheduled("a")
        task = await bench.claim_activity("w1")
        forged = replace(task, token="another")
        assert await bench.extend(activity_lease(forged, 100 * SECOND, "forged")) == [Lost()]
        await bench.outlive_lease()
        assert (await bench.claim_activity("w2")).details is None

    async def test_a_heartbeat_of_a_withdrawn_activity_is_told_to_stop(self, bench: Bench) -> None:
        at = await bench.scheduled("a")
        task = await bench.claim_activity()
        await bench.commit(step(at, withdrawn=(1,)))
        assert await bench.extend(activity_lease(task, bench.lease_us)) == [Cancelled()]

    async def test_a_heartbeat_of_an_activity_whose_run_has_ended_is_told_to_stop(self, bench: Bench) -> None:
        await bench.scheduled("a")
        task = await bench.claim_activity()
        await bench.change(ended("a"))
        assert await bench.extend(activity_lease(task, bench.lease_us)) == [Cancelled()]

    async def test_an_activity_that_is_given_back_is_ready_and_its_delivery_not_counted(
        self, bench: Bench
    ) -> None:
        await bench.scheduled("a")
        task = await bench.claim_activity("w1")
        assert await bench.release(activity_lease(task)) == [Accepted()]
        again = await bench.claim_activity("w2")
        assert (again.deliveries, again.attempt) == (1, 1)
        assert await bench.release(activity_lease(task)) == [Lost()], "its token went with the claim"
        assert await bench.claim_activities("w3") == []

    async def test_every_claim_of_an_attempt_has_the_token_of_its_claim(self, bench: Bench) -> None:
        await bench.scheduled("a")
        for worker_id in ("w1", "w2", "w2"):
            claim = bench.claimant(worker_id)
            (task,) = (await bench.store.claim_activity_tasks(claim, 1)).items
            assert task.token == claim.token
            await bench.outlive_lease()

    @pytest.mark.parametrize(
        "late_call",
        ["commit", "extend", "heartbeat", "finish", "retry", "park", "release", "give_back", "stall"],
    )
    async def test_a_zombies_late_call_changes_nothing(self, bench: Bench, late_call: str) -> None:
        """The worker was paused; another took its run and its activity, and went on with both."""
        await bench.waiting("a", activities=(activity(1),))
        await bench.send(message("a"))
        run, attempt = await bench.claim_one("a", "zombie"), await bench.claim_activity("zombie")
        await bench.outlive_lease()
        theirs = await bench.claim_one("a", "w2")
        their_attempt = await bench.claim_activity("w2")
        await bench.commit(step(theirs, b"theirs", lease=held("w2", bench.lease_us)))
        before = await bench.snapshot()
        verdict = await self.call_late(bench, late_call, run, attempt)
        assert verdict == Lost()
        assert await bench.snapshot() == before
        assert await bench.claim("w3") == [] and await bench.claim_activities("w3") == []
        assert await bench.finish(finished(their_attempt)) == [Accepted()], "their token still stands"

    async def call_late(self, bench: Bench, name: str, run: Any, attempt: Any) -> Any:
        """One of the calls that a worker makes about what it holds."""
        if name == "commit":
            return (await bench.commit(step(run, b"late", consumed=(1,), seen=1)))[0]
        if name == "extend":
            return (await bench.extend(workflow_lease(run, "zombie", bench.lease_us)))[0]
        if name == "heartbeat":
            return (await bench.extend(activity_lease(attempt, bench.lease_us, "late")))[0]
        if name == "release":
            return (await bench.release(workflow_lease(run, "zombie")))[0]
        if name == "give_back":
            return (await bench.release(activity_lease(attempt)))[0]
        if name == "stall":
            problem = Problem(report="late", build="old")
            ref = ended(run.instance_id, run.run_id).ref
            return (await bench.change(Stall(ref=ref, head=run.head, problem=problem, retry_after_us=1)))[0]
        outcomes: dict[str, ActivityOutcome] = {
            "finish": finished(attempt),
            "retry": ActivityRetry(ref=attempt.ref, token=attempt.token, delay_us=0, failure="late"),
            "park": ActivityParked(ref=attempt.ref, token=attempt.token, new_token="late"),
        }
        return (await bench.finish(outcomes[name]))[0]
