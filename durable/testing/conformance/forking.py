"""Workflow laws: forks. They need nothing of a store but a run that is made of several events."""

from __future__ import annotations

from typing import Any

import durable
from durable.testing.conformance import programs
from durable.testing.conformance.stage import Stage
from durable.testing.conformance.workflow_laws import CarriesWorkflows


class ForkingLaws(CarriesWorkflows):
    """Instances that go on from the past of others."""

    async def test_a_fork_keeps_its_past_and_does_the_rest_by_itself(self, stage: Stage) -> None:
        async with stage.worker():
            original = await stage.start(programs.sequence, 4, stage.key)
            assert await stage.result(original) == [0, 1, 2, 3]
            history = await original.history()
            at = [event.number for event in history if event.kind == "activity_completed"][1]
            fork = await original.fork(at)
            assert await stage.result(fork) == [0, 1, 2, 3]
            assert programs.calls[stage.key] == 4 + 2
            kept = await fork.history()
            assert [event.time for event in kept[:at]] == [event.time for event in history[:at]]
            assert len(kept) == len(history)

    async def test_a_forks_activities_are_begun_again_beside_the_originals(self, stage: Stage) -> None:
        key = stage.key
        async with stage.worker():
            original = await stage.start(programs.cleans_up, key, True)
            await stage.opened(f"{key} begun")
            scheduled = await stage.eventually(lambda: _is_scheduled(original))
            fork = await original.fork(scheduled[-1], id=f"{key}-fork")
            await stage.eventually(lambda: _is_begun_twice(key))
            programs.gate(key).set()
            assert [await stage.result(one) for one in (original, fork)] == ["saved", "saved"]
        assert programs.calls[key] == 2

    async def test_a_fork_throws_the_originals_dice(self, stage: Stage) -> None:
        async with stage.worker():
            original = await stage.start(programs.records, stage.key)
            await original.signal(programs.go, "on")
            first, second, *drawn = await stage.result(original)
            heard = [event.number for event in await original.history() if event.kind == "signal_received"]
            again = await stage.result(await original.fork(heard[0]))
            assert again[2:] == drawn
            assert (
                again[0] == first and again[1] != second
            )  # what was recorded stays; what comes later is done


async def _is_scheduled(original: durable.Instance[Any]) -> list[int]:
    """A schedule is written with its result, or when that takes long."""
    return [event.number for event in await original.history() if event.kind == "activity_scheduled"]


async def _is_begun_twice(key: str) -> bool:
    return programs.calls[key] == 2
