"""Workflow laws: what an instance waits for is lost; the audit that reads histories finds it, and puts it back.

And it finds nothing while workers are at work, whatever is on its way just then.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

import durable
from durable.backends.records import Finding
from durable.testing.conformance import programs
from durable.testing.conformance.stage import Stage
from durable.testing.conformance.troubled import Hands
from durable.testing.conformance.workflow_laws import CarriesWorkflows

EVERYWHERE = ("default", "later")


class StrandedLaws(CarriesWorkflows):
    """Instances that wait for what will never come."""

    @pytest.mark.parametrize("warm", [False, True])
    async def test_a_lost_activity_is_scheduled_again(self, stage: Stage, warm: bool) -> None:
        """Also while a worker has the run in memory, under a head that stands no more then."""
        async with stage.worker() if warm else _nobody():
            instance = await _charging(stage, warm)
            await _lost_and_found(stage, instance, "activity_lost", "activity 'echo' (command 1)")
            async with durable.Worker(stage.client, [programs.echo], queues=["later"]):
                if warm:
                    assert await stage.result(instance) == 7
        async with stage.worker(queues=EVERYWHERE):
            assert await stage.result(instance) == 7

    async def test_a_lost_activity_of_a_paused_instance_waits_until_it_is_resumed(self, stage: Stage) -> None:
        instance = await _charging(stage)
        await instance.pause()
        await _lost_and_found(stage, instance, "activity_lost", "activity 'echo' (command 1)")
        assert (await instance.describe()).state == "paused"
        async with stage.worker(queues=EVERYWHERE):
            await instance.resume()
            assert await stage.result(instance) == 7

    async def test_a_lost_activity_that_may_run_at_most_once_fails(self, stage: Stage) -> None:
        instance = await _charging(stage, once=True)
        await _lost_and_found(stage, instance, "activity_lost", "must not run twice")
        async with stage.worker(queues=EVERYWHERE):
            with pytest.raises(durable.WorkflowFailed, match=r"WorkerLost.*at_most_once"):
                await stage.result(instance)

    async def test_an_activity_whose_result_was_lost_is_scheduled_again(self, stage: Stage) -> None:
        instance = await _charging(stage)
        async with durable.Worker(stage.client, [programs.echo], queues=["later"]):
            await stage.eventually(lambda: _activities(stage, 0))
        assert await stage.client.audit() == []
        await _lost_and_found(stage, instance, "answers_lost", "neither its task nor a result")
        async with stage.worker(queues=EVERYWHERE):
            assert await stage.result(instance) == 7

    async def test_a_message_whose_outcome_was_lost_is_sent_again_and_arrives_once(
        self, stage: Stage
    ) -> None:
        hearer = await stage.start(programs.conditional, stage.long_seconds)
        instance = await stage.start(programs.sender, hearer.id, "nobody")
        await _first_step(stage, instance, programs.sender)
        await _lost_and_found(stage, instance, "answers_lost", f"its message to {hearer.id!r} (command 1)")
        async with stage.worker():
            assert await stage.result(instance) == ["delivered", "not found"]
            for word in ("and", "now"):
                await hearer.signal(programs.go, word)
            assert await stage.result(hearer) == "hello and now"

    async def test_a_parent_that_was_not_told_of_its_child_is_told(self, stage: Stage) -> None:
        instance = await stage.start(programs.waits_for_child)
        await _first_step(stage, instance, programs.waits_for_child)
        await _lost_and_found(stage, instance, "answers_lost", "waits to hear that its child")
        async with stage.worker(queues=EVERYWHERE):
            assert await stage.result(instance) == 5

    async def test_several_audits_at_once_do_no_harm(self, stage: Stage) -> None:
        """Each may put the same thing back: what is told twice is heard once."""
        charging = await _charging(stage)
        parent = await stage.start(programs.waits_for_child)
        await _first_step(stage, parent, programs.waits_for_child)
        await stage.damage("activity_lost", charging)
        await stage.damage("answers_lost", parent)
        await asyncio.gather(*(stage.client.audit(repair=True) for _ in range(4)))
        assert await stage.client.audit() == []
        async with stage.worker(queues=EVERYWHERE):
            assert [await stage.result(charging), await stage.result(parent)] == [7, 5]

    async def test_a_parent_that_was_not_told_of_its_childs_end_is_told(self, stage: Stage) -> None:
        instance = await stage.start(programs.waits_for_child)
        await _first_step(stage, instance, programs.waits_for_child)
        async with durable.Worker(stage.client, [programs.child, programs.echo], queues=["later"]):
            await stage.eventually(lambda: _completed(stage))
        await _lost_and_found(
            stage, instance, "answers_lost", "is completed, and it was never told so", count=2
        )
        async with stage.worker():
            assert await stage.result(instance) == 5

    async def test_a_child_that_is_gone_is_told_and_nothing_is_made_up(self, stage: Stage) -> None:
        kid = stage.client.get_instance(f"{stage.key}-kid", workflow=programs.hears)
        async with stage.worker():
            instance = await stage.start(programs.waits_for_word, kid.id)
            await stage.eventually(lambda: _begun(kid))
            await stage.eventually(lambda: _has_events(instance, 3))
        assert await stage.client.audit() == []
        stage.is_damaged = True
        await stage.damage("instance_lost", kid)
        for repair in (False, True, False):
            found = [one for one in await stage.client.audit(repair=repair) if one.instance_id == instance.id]
            assert [(one.repairable, one.repaired) for one in found] == [(False, False)]
            assert f"its child {kid.id!r} (command 1)" in found[0].detail
        await instance.terminate()

    async def test_a_lost_wake_up_time_is_set_anew(self, stage: Stage) -> None:
        async with stage.worker():
            instance = await stage.start(programs.sleeper, stage.long_seconds)
            await stage.reaches(instance, status="asleep")
        await _lost_and_found(stage, instance, "wake_lost", "timer (command 1)")
        async with stage.worker():
            await stage.advance(stage.long_seconds)
            assert await stage.result(instance) == stage.long_seconds

    async def test_a_run_that_nobody_would_begin_is_begun(self, stage: Stage) -> None:
        instance = await stage.start(programs.sequence, 1)
        await _lost_and_found(stage, instance, "stranded", "never begun")
        async with stage.worker():
            assert await stage.result(instance) == [0]

    async def test_what_is_lost_twice_is_put_back_twice(self, stage: Stage) -> None:
        instance = await stage.start(programs.waits_for_child)
        await _first_step(stage, instance, programs.waits_for_child)
        for _ in range(2):
            await _lost_and_found(stage, instance, "answers_lost", "waits to hear that its child")
        async with stage.worker(queues=EVERYWHERE):
            assert await stage.result(instance) == 5

    @pytest.mark.parametrize("repair", [False, True])
    async def test_an_audit_beside_live_work_finds_nothing(self, stage: Stage, repair: bool) -> None:
        """Rows become messages, messages become events, heads move: nothing of that is a loss."""
        async with stage.worker(queues=EVERYWHERE), stage.worker(queues=EVERYWHERE, cache_size=0):
            running = asyncio.ensure_future(_much_at_once(stage))
            audits = 0
            while not running.done():
                assert await stage.client.audit(repair=repair) == []
                audits += 1
                await asyncio.sleep(0)
            await running
        assert audits > 5, "nothing was judged beside the work"


@asynccontextmanager
async def _nobody() -> AsyncIterator[None]:
    yield


async def _lost_and_found(
    stage: Stage, instance: durable.Instance[Any], kind: str, words: str, count: int = 1
) -> None:
    """The audit is clean, then something is lost; it is found, put back, and the audit is clean."""
    assert await stage.client.audit() == []
    await stage.damage(kind, instance)
    for repair in (False, True):
        found = await stage.client.audit(repair=repair)
        assert [_summary(one) for one in found] == [("I7", instance.id, True, repair)] * count
        assert words in found[-1].detail and instance.id in found[-1].detail
        assert ("; repaired: " if repair else "; repair: ") in found[-1].detail
    assert await stage.client.audit() == []


def _summary(found: Finding) -> tuple[str, str, bool, bool]:
    return (found.rule.split()[0], found.instance_id, found.repairable, found.repaired)


async def _charging(stage: Stage, warm: bool = False, *, once: bool = False) -> durable.Instance[int]:
    """An instance that waits for an activity which nobody takes. ``warm``: there is a worker already."""
    instance = await stage.start(programs.charges, once)
    async with _nobody() if warm else stage.worker():
        await stage.eventually(lambda: _activities(stage, 1))
    return instance


async def _first_step(stage: Stage, instance: durable.Instance[Any], code: Any) -> None:
    """Have its first task done, and what comes of it left alone."""
    client = await stage.connect(lambda store: Hands(store, 1))
    async with durable.Worker(client, [code]):
        await stage.eventually(lambda: _has_events(instance, 2))


async def _activities(stage: Stage, count: int) -> bool:
    return (await stage.client.stats()).activity_tasks.get("later", 0) == count


async def _completed(stage: Stage) -> bool:
    return (await stage.client.stats()).instances.get("completed", 0) > 0


async def _has_events(instance: durable.Instance[Any], count: int) -> bool:
    return (await instance.describe()).history_length >= count


async def _begun(instance: durable.Instance[Any]) -> bool:
    try:
        return (await instance.describe()).history_length >= 1
    except durable.InstanceNotFound:
        return False


async def _much_at_once(stage: Stage) -> None:
    waiting: list[durable.Instance[Any]] = []
    for n in range(6):
        collector = await stage.start(programs.collects, [], 5, name=f"collects-{n}")
        waiting += [
            collector,
            await stage.start(programs.sequence, 8, name=f"sequence-{n}"),
            await stage.start(programs.fan_out, 10, name=f"fan-{n}"),
            await stage.start(programs.parent, name=f"parent-{n}"),
            await stage.start(programs.waits_for_child, name=f"child-{n}"),
            await stage.start(programs.charges, False, name=f"charges-{n}"),
            await stage.start(programs.wakes_in_order, 0.02, name=f"wakes-{n}"),
            await stage.start(programs.sender, collector.id, "nobody", name=f"sender-{n}"),
        ]
        for value in range(5):
            await collector.signal(programs.tick, value)
        if n % 2:
            with suppress(durable.InstanceFinished):
                await waiting[-3].pause()
                await waiting[-3].resume()
    for instance in waiting:
        await stage.result(instance)
