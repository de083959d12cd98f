"""Laws of stalled runs: parked without a trace in history, tried again by other code and after a while (I19, I29)."""

from __future__ import annotations

from durable.backends.records import (
    Accepted,
    Definition,
    Finished,
    Head,
    InstanceRef,
    Lost,
    Problem,
    Resume,
    Stall,
    WorkflowTask,
)
from durable.testing.conformance.bench import Bench
from durable.testing.conformance.clock import MINUTE
from durable.testing.conformance.laws import Laws
from durable.testing.conformance.specimens import (
    Position,
    done,
    ended,
    head_of,
    message,
    step,
    workflow_lease,
)

OLD, NEW = "build 1", "build 2"


class StallingLaws(Laws):
    """`Stall`, `claim_stalled_tasks`, and `Resume` of a stalled run."""

    def stall(self, at: Position, head: Head | None = None) -> Stall:
        return Stall(
            ref=InstanceRef(instance_id=at.instance_id, run_id=at.run_id),
            head=head or head_of(at),
            problem=Problem(report='{"why":"x"}', build=OLD),
            retry_after_us=MINUTE,
        )

    async def claim_stalled(
        self, bench: Bench, build: str, *, at_start: bool, worker_id: str = "w1"
    ) -> list[WorkflowTask]:
        claimant = bench.claimant(worker_id, workflows=(Definition(workflow="Order", build=build),))
        return list((await bench.store.claim_stalled_tasks(claimant, 10, at_start=at_start)).items)

    async def test_a_stalled_run_is_not_handed_out_and_shows_its_problem(self, bench: Bench) -> None:
        at = await bench.start("a")
        assert await bench.change(self.stall(at)) == [Accepted()]
        view = await bench.view("a")
        assert view.state == "stalled"
        assert view.problem is not None
        assert (view.problem.report, view.problem.build) == ('{"why":"x"}', OLD)
        assert view.head == at.head
        assert await bench.history("a", at.run_id) == (b"started",)
        assert await bench.claim() == []

    async def test_stalling_twice_has_the_effect_of_once(self, bench: Bench) -> None:
        at = await bench.start("a")
        await bench.change(self.stall(at))
        before = await bench.snapshot()
        assert await bench.change(self.stall(at)) == [Accepted()]
        assert (await bench.snapshot()).histories == before.histories

    async def test_a_run_whose_head_has_moved_is_not_stalled(self, bench: Bench) -> None:
        at = await bench.start("a")
        await bench.commit(step(at))
        assert await bench.change(self.stall(at)) == [Lost()]
        forged = Head(number=2, token="guessed")
        assert await bench.change(self.stall(at, forged)) == [Lost()]
        assert (await bench.view("a")).state == "running"

    async def test_a_finished_run_is_not_stalled(self, bench: Bench) -> None:
        at = done(await bench.start("a"))
        await bench.commit(at)
        (verdict,) = await bench.change(self.stall(at))
        assert verdict in (Lost(), Finished(state="completed"))
        assert (await bench.view("a")).state == "completed"

    async def test_another_build_tries_it_at_its_start(self, bench: Bench) -> None:
        at = await bench.start("a")
        await bench.change(self.stall(at))
        assert await self.claim_stalled(bench, OLD, at_start=True) == []
        (task,) = await self.claim_stalled(bench, NEW, at_start=True)
        assert (task.instance_id, task.state, task.head) == ("a", "stalled", at.head)
        assert await self.claim_stalled(bench, "build 3", at_start=True, worker_id="w2") == []

    async def test_any_build_tries_it_after_its_delay(self, bench: Bench) -> None:
        bench.under_test.needs_clock()
        await bench.change(self.stall(await bench.start("a")))
        await bench.advance(MINUTE - 1)
        assert await self.claim_stalled(bench, OLD, at_start=False) == []
        await bench.advance(1)
        assert len(await self.claim_stalled(bench, OLD, at_start=False)) == 1

    async def test_only_definitions_of_the_claimant_are_tried(self, bench: Bench) -> None:
        at = await bench.start("a", workflow="Refund")
        await bench.change(self.stall(at))
        assert await self.claim_stalled(bench, NEW, at_start=True) == []

    async def test_it_stays_stalled_until_a_checkpoint_is_accepted(self, bench: Bench) -> None:
        await bench.change(self.stall(await bench.start("a")))
        (task,) = await self.claim_stalled(bench, NEW, at_start=True)
        assert (await bench.view("a")).state == "stalled"
        assert await bench.commit(step(task)) == [Accepted()]
        assert (await bench.view("a")).state == "running"
        await bench.send(message("a"))
        assert (await bench.claim_one("a")).claims == 1

    async def test_a_message_to_a_stalled_run_waits_for_it(self, bench: Bench) -> None:
        await bench.change(self.stall(await bench.start("a")))
        assert await bench.send(message("a", "k")) == [Accepted()]
        assert await bench.claim() == []
        (task,) = await self.claim_stalled(bench, NEW, at_start=True)
        assert [m.key for m in task.messages] == ["k"]

    async def test_a_resumed_run_is_tried_by_everyone(self, bench: Bench) -> None:
        await bench.change(self.stall(await bench.start("a")))
        assert await bench.change(Resume(ref=InstanceRef(instance_id="a"))) == [Accepted()]
        assert (await bench.view("a")).state == "running"
        await bench.claim_one("a")

    async def test_a_stalled_run_can_be_ended(self, bench: Bench) -> None:
        await bench.change(self.stall(await bench.start("a")))
        assert await bench.change(ended("a")) == [Accepted()]
        assert await self.claim_stalled(bench, NEW, at_start=True) == []

    async def test_a_try_that_is_given_back_leaves_it_stalled(self, bench: Bench) -> None:
        await bench.change(self.stall(await bench.start("a")))
        (task,) = await self.claim_stalled(bench, NEW, at_start=True)
        await bench.release(workflow_lease(task, "w1"))
        assert (await bench.view("a")).state == "stalled"
        assert await bench.claim() == []
        assert len(await self.claim_stalled(bench, NEW, at_start=True, worker_id="w2")) == 1
