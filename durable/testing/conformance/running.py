"""Workflow laws: activities, failures, time, what is recorded and shown."""

from __future__ import annotations

import itertools
from datetime import timedelta

import pytest

import durable
from durable.backends.records import Claimant
from durable.testing.conformance import programs
from durable.testing.conformance.programs import CardDeclined
from durable.testing.conformance.stage import Stage
from durable.testing.conformance.workflow_laws import CarriesWorkflows


class RunningLaws(CarriesWorkflows):
    """One instance by itself."""

    async def test_activities_one_after_the_other(self, stage: Stage) -> None:
        async with stage.worker():
            assert await stage.run(programs.sequence, 10, stage.key) == list(range(10))
        assert programs.calls[stage.key] == 10

    async def test_activities_side_by_side_gathered_in_a_group_and_in_a_set(self, stage: Stage) -> None:
        async with stage.worker():
            assert await stage.run(programs.fan_out, 20, stage.key) == 190 + 6 + 190
        assert programs.calls[stage.key] == 40

    async def test_results_are_handled_in_the_order_in_which_they_come(self, stage: Stage) -> None:
        async with stage.worker():
            assert await stage.run(programs.one_by_one, 8) == [n * 10 for n in range(8)]

    async def test_fewer_slots_than_activities(self, stage: Stage) -> None:
        async with stage.worker(max_activities=2, max_workflow_tasks=1):
            assert await stage.run(programs.fan_out, 10, stage.key) == 45 + 6 + 45
        assert programs.calls[stage.key] == 20

    async def test_a_failing_activity_is_tried_again(self, stage: Stage) -> None:
        async with stage.worker():
            assert await stage.run(programs.retried, 2) == 3

    async def test_what_activities_raise_comes_out_as_itself(self, stage: Stage) -> None:
        async with stage.worker():
            assert await stage.run(programs.catches) == ["CardDeclined: attempt 3", "NonRetryable: never"]

    async def test_what_leaves_the_workflow_fails_the_instance(self, stage: Stage) -> None:
        async with stage.worker():
            instance = await stage.start(programs.retried, 3)
            with pytest.raises(durable.WorkflowFailed) as caught:
                await stage.result(instance)
        assert isinstance(caught.value.__cause__, CardDeclined)
        assert (await instance.describe()).state == "failed"

    async def test_every_time_limit_of_an_activity(self, stage: Stage) -> None:
        async with stage.worker():
            kinds = await stage.run(programs.times_out, stage.key)
        assert kinds == ["timeout", "heartbeat", "queue", "asyncio"]

    async def test_details_of_a_heartbeat_reach_the_next_attempt(self, stage: Stage) -> None:
        async with stage.worker():
            assert await stage.run(programs.goes_on_from_heartbeat) == 42

    async def test_an_activity_that_is_finished_from_elsewhere(self, stage: Stage) -> None:
        async with stage.worker():
            instance = await stage.start(programs.waits_for_elsewhere, stage.key)
            await stage.opened(stage.key)

            async def done() -> bool:
                try:
                    await stage.client.complete_activity(programs.mail[stage.key], "from afar")
                except durable.InstanceFinished:  # it has not been parked yet
                    return False
                return True

            await stage.eventually(done)
            assert await stage.result(instance) == "from afar"

    # --- time

    async def test_a_timer_fires_when_it_is_due_and_not_before(self, stage: Stage) -> None:
        long = stage.long_seconds
        async with stage.worker():
            instance = await stage.start(programs.sleeper, long)
            await stage.reaches(instance, status="asleep")
            if stage.under_test.clock is not None:
                await stage.advance(long / 2)
                assert (await instance.describe()).state == "running"
            await stage.advance(long)
            assert await stage.result(instance) >= long

    async def test_a_timer_is_due_to_the_microsecond(self, stage: Stage) -> None:
        async with stage.worker():
            instance = await stage.start(programs.sleeper, 0.150001)
            assert await stage.result(instance) == 0.150001
        closed_at = (await instance.describe()).closed_at
        (started, fired) = [
            event for event in await _history(stage) if event.kind in ("timer_started", "timer_fired")
        ]
        assert fired.time - started.time == timedelta(microseconds=150_001)
        assert closed_at is not None  # the store's time, whatever the worker thinks
        assert closed_at >= fired.time

    async def test_what_happens_meanwhile_fires_no_timer_before_its_time(self, stage: Stage) -> None:
        await stage.begin_a_second()
        async with stage.worker():
            instance = await stage.start(programs.conditional, 0.2)
            await stage.reaches(instance, status="waiting")
            await instance.signal(programs.go, "meanwhile")
            found = await stage.reaches(instance, status="late")
            due_us = next(e.fields["due_us"] for e in await instance.history() if e.kind == "timer_started")
            assert found.updated_at.timestamp() * 1e6 >= due_us
            await instance.signal(programs.go, "now")
            # On a slow machine the timer's time may come before the signal does.
            assert await stage.result(instance) in ("meanwhile late now", "late meanwhile now")

    async def test_timers_fire_in_the_order_of_their_times(self, stage: Stage) -> None:
        unit = stage.long_seconds
        async with stage.worker():
            instance = await stage.start(programs.wakes_in_order, unit)
            await stage.reaches(instance, status="asleep")
            await stage.advance(3 * unit)
            assert await stage.result(instance) == [1, 2, 3]

    async def test_a_timer_that_is_due_while_no_worker_is_there_fires_when_one_comes(
        self, stage: Stage
    ) -> None:
        long = stage.long_seconds
        async with stage.worker():
            instance = await stage.start(programs.sleeper, long)
            await stage.reaches(instance, status="asleep")
        await stage.advance(long)
        async with stage.worker():
            assert await stage.result(instance) >= long

    async def test_sleeping_until_a_time_and_starting_at_one(self, stage: Stage) -> None:
        now = (await (await stage.start(programs.hears)).describe()).created_at
        long = timedelta(seconds=stage.long_seconds)
        async with stage.worker():
            instance = await stage.start(programs.until, now + 2 * long, start_at=now + long)
            await stage.advance(long.total_seconds())
            await stage.advance(long.total_seconds() + 0.05)
            assert await stage.result(instance) is True
            first = (await instance.history())[0]
            assert first.time >= now + long

    async def test_the_time_limit_of_an_instance_ends_it(self, stage: Stage) -> None:
        long = stage.long_seconds
        async with stage.worker():
            instance = await stage.start(programs.hears, timeout=long)
            await stage.advance(long)
            with pytest.raises(durable.WorkflowFailed) as caught:
                await stage.result(instance)
            assert isinstance(caught.value.__cause__, TimeoutError)

    # --- what is recorded and shown

    async def test_what_was_drawn_or_measured_once_stays(self, stage: Stage) -> None:
        async with stage.worker(cache_size=0):
            instance = await stage.start(programs.records, stage.key)
            await stage.eventually(lambda: _length_is(instance, 4))
            await instance.signal(programs.go, "on")
            found = await stage.result(instance)
        assert found[:2] == [1, 2]
        assert programs.rolled[stage.key] == 2

    async def test_variables_status_and_events_are_there_for_others(self, stage: Stage) -> None:
        async with stage.worker():
            instance = await stage.start(programs.shows, tags={"team": "a"})
            found = await stage.reaches(instance, status="waiting")
            assert found.vars == {"progress": {"done": 1, "of": 2}}
            assert found.tags == {"team": "a"}
            await instance.signal(programs.go, "sent")
            assert await stage.result(instance) == "sent"
        found = await instance.describe()
        assert (found.state, found.status) == ("completed", "shipped")
        assert await instance.vars() == {"progress": {"done": 2, "of": 2}, "word": "sent"}
        claimant = Claimant(worker_id="relay", token="t", lease_us=1_000_000, queues=())
        published = (await stage.client.store.claim_outbox(claimant, 10)).items
        assert [(event.topic, event.payload, event.key) for event in published] == [
            ("orders", '{"id":7}', "k"),
            ("orders", '{"id":8}', "k"),
        ]

    async def test_a_history_is_numbered_without_gaps_and_its_times_never_go_back(self, stage: Stage) -> None:
        async with stage.worker():
            await stage.run(programs.fan_out, 5, stage.key)
        history = await _history(stage)
        assert [event.number for event in history] == list(range(1, len(history) + 1))
        assert history[0].kind == "run_started"
        assert history[-1].kind == "run_completed"
        assert all(one.time <= next_one.time for one, next_one in itertools.pairwise(history))


async def _history(stage: Stage) -> list[durable.HistoryEvent]:
    (only,) = (await stage.client.list_instances()).items
    return await stage.client.get_instance(only.id).history()


async def _length_is(instance: durable.Instance[object], least: int) -> bool:
    return (await instance.describe()).history_length >= least
