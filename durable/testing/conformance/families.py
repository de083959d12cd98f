"""Workflow laws: children, next runs, and code that changes while instances run."""

from __future__ import annotations

import pytest

import durable
from durable.testing.conformance import programs
from durable.testing.conformance.stage import Stage
from durable.testing.conformance.workflow_laws import CarriesWorkflows


class FamilyLaws(CarriesWorkflows):
    """Instances that come of others."""

    async def test_children_that_are_awaited_started_failing_and_refused(self, stage: Stage) -> None:
        async with stage.worker():
            assert await stage.run(programs.parent) == [1, 2, "-3 cents", "taken", 5]

    async def test_children_when_their_parent_ends(self, stage: Stage) -> None:
        key = stage.key
        async with stage.worker():
            instance = await stage.start(programs.leaves_children, key)
            await stage.eventually(lambda: _exists(stage, f"{key}-abandon"))
            await instance.signal(programs.go, "leave")
            assert await stage.result(instance) == "leave"
            ended, asked, left = (
                stage.client.get_instance(f"{key}-{policy}", workflow=programs.held_child)
                for policy in ("terminate", "cancel", "abandon")
            )
            with pytest.raises(durable.WorkflowTerminated):
                await stage.result(ended)
            with pytest.raises(durable.WorkflowCancelled):
                await stage.result(asked)
            assert (await asked.describe()).status == "asked to cancel"
            assert (await left.describe()).state == "running"
            await left.signal(programs.go, "free")
            assert await stage.result(left) == "free"

    async def test_the_next_runs_lose_no_signal_and_their_handle_follows(self, stage: Stage) -> None:
        async with stage.worker():
            instance = await stage.start(programs.collects, [], 9)
            for value in range(9):
                await instance.signal(programs.tick, value)
            assert await stage.result(instance) == list(range(9))
        runs = (await stage.client.list_instances(limit=100)).items
        assert sorted(run.state for run in runs) == ["completed", *["continued_as_new"] * 4]
        assert len({run.first_run_id for run in runs}) == 1

    async def test_old_runs_never_see_what_was_patched_and_new_ones_always_do(self, stage: Stage) -> None:
        before, after = programs.deployed_before, programs.deployed_after
        async with stage.worker(more=[before]):
            old = await stage.start(before, name="old")
            await stage.eventually(lambda: _waits(old, 3))
        async with stage.worker(more=[after]):
            new = await stage.start(after, name="new")
            for instance in (old, new):
                await instance.signal(programs.go, "on")
            assert await stage.result(old) == ["on"]
            assert await stage.result(new) == ["on", "noted"]

    async def test_a_run_that_other_code_cannot_go_on_with_is_parked_and_healed(self, stage: Stage) -> None:
        before, after = programs.broken_before, programs.broken_after
        async with stage.worker(more=[before]):
            instance = await stage.start(before)
            await stage.eventually(lambda: _waits(instance, 3))
        length = (await instance.describe()).history_length
        await instance.signal(programs.go, "on")
        async with stage.worker(more=[after]):
            problem = (await stage.reaches(instance, state="stalled")).problem
            assert problem is not None
            assert "echo" in problem.expected
            assert "in_thread" in problem.actual
            assert problem.file.endswith("programs.py")
        assert (await instance.describe()).history_length == length
        async with stage.worker(more=[before]):
            assert await stage.result(instance) == 1


async def _exists(stage: Stage, id: str) -> bool:
    try:
        await stage.client.get_instance(id).describe()
    except durable.InstanceNotFound:
        return False
    return True


async def _waits(instance: durable.Instance[object], length: int) -> bool:
    return (await instance.describe()).history_length >= length
