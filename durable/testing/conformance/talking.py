"""Workflow laws: signals, conditions, queries, updates, cancelling, pausing, ending from outside."""

from __future__ import annotations

import pytest

import durable
from durable.testing.conformance import programs
from durable.testing.conformance.programs import Approval
from durable.testing.conformance.stage import Stage
from durable.testing.conformance.workflow_laws import CarriesWorkflows


class TalkingLaws(CarriesWorkflows):
    """Instances and those who talk to them."""

    async def test_signals_are_typed_and_keep_their_order(self, stage: Stage) -> None:
        sent = [Approval(by="Ada", cents=n) for n in range(12)]
        instance = await stage.start(programs.approvals, len(sent))
        for approval in sent[:6]:  # before there is a worker
            await instance.signal(programs.approve, approval)
        async with stage.worker():
            for approval in sent[6:]:
                await instance.signal(programs.approve, approval)
            assert await stage.result(instance) == sent

    async def test_a_signal_with_a_key_counts_once(self, stage: Stage) -> None:
        instance = await stage.start(programs.approvals, 2)
        async with stage.worker():
            for cents in (1, 2, 3):
                await instance.signal(programs.approve, Approval(by="Ada", cents=cents), key="same")
            await instance.signal(programs.approve, Approval(by="Bob", cents=9))
            assert [approval.cents for approval in await stage.result(instance)] == [1, 9]

    async def test_a_signal_that_comes_at_the_very_end_is_seen_or_refused(self, stage: Stage) -> None:
        """Every accepted signal is in the result: a run does not end over the head of a message."""
        async with stage.worker():
            for attempt in range(10):
                instance = await stage.start(programs.at_the_end, name=f"end-{attempt}")
                accepted = []
                try:
                    for value in range(20):
                        await instance.signal(programs.tick, value)
                        accepted.append(value)
                except durable.InstanceFinished:
                    pass
                assert await stage.result(instance) == accepted

    async def test_signal_with_start_starts_once(self, stage: Stage) -> None:
        async with stage.worker():
            for value in (1, 2):
                await stage.client.signal_with_start(
                    programs.collects, [], 2, id=stage.key, signal=programs.tick, value=value
                )
            assert await stage.result(stage.client.get_instance(stage.key)) == [1, 2]

    async def test_a_condition_is_waited_for_in_vain_and_then_comes_true(self, stage: Stage) -> None:
        async with stage.worker():
            instance = await stage.start(programs.conditional, stage.long_seconds)
            await stage.reaches(instance, status="waiting")
            await instance.signal(programs.go, "soon")
            await stage.advance(stage.long_seconds)
            await stage.reaches(instance, status="late")
            await instance.signal(programs.go, "now")
            assert await stage.result(instance) == "soon late now"

    async def test_workflows_signal_each_other(self, stage: Stage) -> None:
        async with stage.worker():
            listening = await stage.start(programs.hears)
            answers = await stage.run(programs.sender, listening.id, f"{stage.key}-nobody")
            assert answers == ["delivered", "not found"]
            assert await stage.result(listening) == "hello"
            assert await stage.run(programs.sender, listening.id, "nobody", name="again") == [
                "finished",
                "not found",
            ]

    # --- questions

    async def test_queries_and_updates(self, stage: Stage) -> None:
        async with stage.worker():
            instance = await stage.start(programs.answers)
            assert [await instance.update("add", item) for item in (3, 4)] == [1, 2]
            assert await instance.query("total", 10) == 70
            with pytest.raises(durable.UpdateRejected, match="negative"):
                await instance.update("add", -1)
            with pytest.raises(durable.UpdateRejected):
                await instance.update("unknown")
            with pytest.raises(durable.QueryFailed):
                await instance.query("unknown")
            assert [await instance.update("add", 5, key="once") for _ in range(2)] == [3, 3]
            await instance.signal(programs.go, "enough")
            assert await stage.result(instance) == [3, 4, 5]
            assert await instance.query("total") == 12

    # --- cancelling and ending

    @pytest.mark.parametrize("saved", [False, True])
    async def test_a_cancelled_workflow_cleans_up(self, stage: Stage, saved: bool) -> None:
        key = stage.key
        async with stage.worker():
            instance = await stage.start(programs.cleans_up, key, saved)
            await stage.opened(f"{key} begun")
            await instance.cancel("no more")
            if saved:
                assert await stage.result(instance) == "saved"
            else:
                with pytest.raises(durable.WorkflowCancelled, match="no more"):
                    await stage.result(instance)
            await stage.opened(f"{key} cancelled")
        assert programs.calls[f"{key} cleaned"] == 1
        found = await instance.describe()
        assert (found.state, found.status) == ("completed" if saved else "cancelled", "cleaned")

    async def test_termination_asks_nobody(self, stage: Stage) -> None:
        key = stage.key
        async with stage.worker():
            instance = await stage.start(programs.cleans_up, key, True)
            await stage.opened(f"{key} begun")
            await instance.terminate("enough")
            with pytest.raises(durable.WorkflowTerminated, match="enough"):
                await stage.result(instance)
            programs.gate(key).set()
            with pytest.raises(durable.InstanceFinished):
                await instance.signal(programs.go, "late")
        assert programs.calls[f"{key} cleaned"] == 0

    async def test_termination_without_any_worker(self, stage: Stage) -> None:
        instance = await stage.start(programs.hears)
        await instance.terminate()
        with pytest.raises(durable.WorkflowTerminated):
            await stage.result(instance)

    async def test_a_paused_instance_keeps_what_comes_and_goes_on_when_resumed(self, stage: Stage) -> None:
        key = stage.key
        async with stage.worker():
            instance = await stage.start(programs.approvals, 2)
            held = await stage.start(programs.two_steps, key)
            await stage.opened(f"{key} begun")
            for one in (instance, held):
                await one.pause("for a while")
            assert (await instance.describe()).state == "paused"
            await instance.signal(programs.approve, Approval(by="Ada", cents=1))
            await instance.signal(programs.approve, Approval(by="Ada", cents=2))
            programs.gate(key).set()
            with pytest.raises(TimeoutError):
                await instance.result(timeout=0.1)
            assert ((await held.describe()).state, programs.calls[f"{key} second"]) == ("paused", 0)
            for one in (instance, held):
                await one.resume()
            assert [approval.cents for approval in await stage.result(instance)] == [1, 2]
            assert await stage.result(held) == 2
        assert (programs.calls[key], programs.calls[f"{key} second"]) == (1, 1)

    async def test_a_finished_instance_takes_nothing_and_gives_its_result_again(self, stage: Stage) -> None:
        async with stage.worker():
            instance = await stage.start(programs.child, 7)
            assert await stage.result(instance) == 7
        assert await stage.client.get_instance(instance.id).result(timeout=5) == 7
        for verb in (instance.cancel, instance.terminate, instance.pause):
            with pytest.raises(durable.InstanceFinished):
                await verb()
