"""Workflow laws: several workers, workers that stop or are cut off, lost replies, lost wake-ups."""

from __future__ import annotations

import asyncio
from typing import TypeVar

import durable
from durable.client.client import Client
from durable.testing.conformance import programs
from durable.testing.conformance.programs import Approval
from durable.testing.conformance.stage import Stage
from durable.testing.conformance.troubled import Cable, Deaf, Fails, LosesEveryFirstReply
from durable.testing.conformance.workflow_laws import CarriesWorkflows

R = TypeVar("R")
LEASE_SECONDS = 0.6


class EnduringLaws(CarriesWorkflows):
    """What no trouble may change."""

    async def test_without_any_fault_two_workers_do_nothing_twice(self, stage: Stage) -> None:
        second = await stage.connect()
        async with stage.worker(), stage.worker(second):
            await medley(stage, 12)
        assert programs.calls[stage.key] == 12 * (4 + 6)

    async def test_nothing_is_kept_warm(self, stage: Stage) -> None:
        async with stage.worker(cache_size=0):
            await medley(stage, 5)
        assert programs.calls[stage.key] == 5 * (4 + 6)

    async def test_two_workers_that_keep_nothing_warm_and_never_hear_the_bell(self, stage: Stage) -> None:
        clients = [await stage.connect(Deaf, poll_seconds=0.02) for _ in range(2)]
        async with stage.worker(clients[0], cache_size=0), stage.worker(clients[1], cache_size=1):
            await medley(stage, 5)
        assert programs.calls[stage.key] == 5 * (4 + 6)

    async def test_a_worker_that_never_hears_the_bell_polls(self, stage: Stage) -> None:
        deaf = await stage.connect(Deaf, poll_seconds=0.02)
        async with stage.worker(deaf):
            await asyncio.sleep(0.05)  # the loops of the worker have gone to sleep
            await medley(stage, 3)
            assert await stage.run(programs.retried, 2) == 3

    async def test_every_reply_is_lost(self, stage: Stage) -> None:
        """Not to the clients, who would give up, but to the worker: whatever it asks, it has to ask twice."""
        losing = await stage.connect(LosesEveryFirstReply, poll_seconds=0.02)
        async with stage.worker(losing):
            await medley(stage, 2)
            assert await stage.run(programs.retried, 2) == 3
        assert programs.calls[stage.key] == 2 * (4 + 6)

    async def test_a_worker_stops_in_the_middle_and_another_goes_on(self, stage: Stage) -> None:
        key = stage.key
        async with stage.worker(shutdown_timeout=0.0):
            instance = await stage.start(programs.cleans_up, key, True)
            await stage.opened(f"{key} begun")
        await stage.opened(f"{key} cancelled")
        programs.gate(key).set()
        second = await stage.connect()
        async with stage.worker(second):
            assert await stage.result(instance) == "saved"
            assert programs.calls[key] == 2
        assert programs.calls[f"{key} cleaned"] == 0

    async def test_a_draining_worker_lets_its_activities_finish(self, stage: Stage) -> None:
        key = stage.key
        async with stage.worker(shutdown_timeout=10.0):
            instance = await stage.start(programs.cleans_up, key, True)
            await stage.opened(f"{key} begun")
            asyncio.get_running_loop().call_later(0.05, programs.gate(key).set)
        second = await stage.connect()
        async with stage.worker(second):
            assert await stage.result(instance) == "saved"
        assert programs.calls[key] == 1

    async def test_a_worker_that_was_cut_off_is_replaced_and_its_late_word_counts_for_nothing(
        self, stage: Stage
    ) -> None:
        client, cable = await _over_a_cable(stage)
        async with stage.worker(client, lease=LEASE_SECONDS):
            held = await stage.start(programs.cleans_up, stage.key, True, name="held")
            counted = await stage.start(programs.approvals, 3, name="counted")
            await stage.opened(f"{stage.key} begun")
            await counted.signal(programs.approve, Approval(by="Ada", cents=1))
            await stage.eventually(lambda: _is_longer_than(counted, 1))
            second = await stage.connect()
            async with stage.worker(second, lease=LEASE_SECONDS):
                assert await stage.run(programs.sequence, 2) == [0, 1]  # both are at work
                cable.cut = True
                programs.gate(stage.key).set()  # its activity ends, and nobody can be told
                await stage.advance(LEASE_SECONDS + 0.1)
                assert await stage.result(held) == "saved"
                await counted.signal(programs.approve, Approval(by="Ada", cents=2))
                await stage.eventually(lambda: _is_longer_than(counted, 2))
            cable.cut = False
            await counted.signal(programs.approve, Approval(by="Ada", cents=3))
            assert [approval.cents for approval in await stage.result(counted)] == [1, 2, 3]
        assert programs.calls[stage.key] == 2

    async def test_children_are_closed_although_the_store_fails_at_first(self, stage: Stage) -> None:
        failing = await stage.connect(lambda store: Fails(store, "change"), poll_seconds=0.05)
        async with stage.worker(failing, lease=LEASE_SECONDS):
            instance = await stage.start(programs.leaves_children, stage.key)
            await instance.signal(programs.go, "leave")
            assert await stage.result(instance) == "leave"
            child = stage.client.get_instance(f"{stage.key}-terminate")
            await stage.reaches(child, state="terminated")

    async def test_the_store_is_gone_for_a_while_and_everything_goes_on(self, stage: Stage) -> None:
        client, cable = await _over_a_cable(stage)
        async with stage.worker(client):
            running = asyncio.ensure_future(medley(stage, 3))
            cable.cut = True
            await stage.eventually(lambda: _tried(cable, 3))
            cable.cut = False
            await running
        assert programs.calls[stage.key] == 3 * (4 + 6)


async def medley(stage: Stage, many: int) -> None:
    """Instances of several workflows at once, each with the right result. Of each sort ``many``."""
    key = stage.key
    sequences = [await stage.start(programs.sequence, 4, key, name=f"s{n}") for n in range(many)]
    fans = [await stage.start(programs.fan_out, 3, key, name=f"f{n}") for n in range(many)]
    counters = [await stage.start(programs.collects, [], 4, name=f"c{n}") for n in range(many)]
    sleepers = [await stage.start(programs.sleeper, 0.02, name=f"t{n}") for n in range(many)]
    families = [await stage.start(programs.parent, name=f"p{n}") for n in range(2)]
    for counter in counters:
        for value in range(4):
            await counter.signal(programs.tick, value)
    assert await _all(stage, sequences) == [[0, 1, 2, 3]] * many
    assert await _all(stage, fans) == [3 + 6 + 3] * many
    assert await _all(stage, counters) == [[0, 1, 2, 3]] * many
    assert all(slept >= 0.02 for slept in await _all(stage, sleepers))
    assert await _all(stage, families) == [[1, 2, "-3 cents", "taken", 5]] * 2


async def _all(stage: Stage, instances: list[durable.Instance[R]]) -> list[R]:
    return [await stage.result(instance) for instance in instances]


async def _over_a_cable(stage: Stage) -> tuple[Client, Cable]:
    client = await stage.connect(Cable, poll_seconds=0.05)
    cable = client.store
    assert isinstance(cable, Cable)
    return client, cable


async def _tried(cable: Cable, times: int) -> bool:
    return cable.begun >= times


async def _is_longer_than(instance: durable.Instance[object], length: int) -> bool:
    return (await instance.describe()).history_length > length
