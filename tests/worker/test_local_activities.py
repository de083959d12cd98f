"""The rules of short activities without a row, one test each. `tests.worker.test_local_mutants` breaks each rule."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

import durable
from durable.backends.records import (
    Checkpoint,
    Claimant,
    Definition,
    InstanceRef,
    Lost,
    Pause,
    Resume,
    WorkflowLease,
)
from durable.client.client import Client
from durable.core.ids import is_open
from durable.worker import local_activities
from tests.worker import stores
from tests.worker.stores import Store, connected, until

go: durable.Signal[int] = durable.Signal("go", int)


class Scene:
    """A client, its store, and what was committed. ``ran`` is what the activities noted; ``gate`` holds `slow` up."""

    def __init__(self, client: Client, store: Store) -> None:
        self.client = client
        self.store = store
        self.commits: list[Checkpoint] = []
        self.ran: list[str] = []
        self.gate = asyncio.Event()
        store.hooks["commit"] = self._commit

    async def _commit(self, method: Any, checkpoints: Any) -> Any:
        self.commits += checkpoints
        return await method(checkpoints)

    def rows(self) -> dict[int, str | None]:
        """The numbers of all activities that have a row, and who has a lease on each."""
        instances = self.store.real._tables.instances.values()
        runs = [run for instance in instances for run in instance.runs.values()]
        return {
            number: None if row.lease is None else row.lease.worker_id
            for run in runs
            for number, row in run.activities.items()
        }

    def worker(self, *definitions: Any, **options: Any) -> durable.Worker:
        return durable.Worker(self.client, definitions, name="w", **{"shutdown_timeout": 0.2, **options})


_scene: Scene


@asynccontextmanager
async def scene() -> AsyncIterator[Scene]:
    global _scene
    async with connected() as (client, store):
        _scene = Scene(client, store)
        yield _scene


@durable.activity
async def quick(name: str) -> str:
    _scene.ran.append(name)
    return name


@durable.activity
async def slow(name: str) -> str:
    _scene.ran.append(name)
    try:
        await _scene.gate.wait()
    except asyncio.CancelledError:
        _scene.ran.append(f"{name} cancelled")
        raise
    return name


@durable.activity(at_most_once=True)
async def once() -> list[str | None]:
    return list(_scene.rows().values())


@durable.activity
async def looks() -> list[str | None]:
    return list(_scene.rows().values())


@durable.activity
async def hands_over() -> str:
    token = await durable.complete_later()
    await _scene.client.complete_activity(token, "from elsewhere")
    return "never seen"


@durable.activity(retry=durable.Retry(max_attempts=3, initial=0.001))
async def fails_twice() -> int:
    attempt = durable.activity_info().attempt
    _scene.ran.append(f"attempt {attempt}")
    if attempt < 3:
        raise RuntimeError("not yet")
    return attempt


@durable.activity
async def beats() -> str:
    durable.heartbeat("half")
    await _scene.gate.wait()
    return "whole"


@durable.workflow
async def one_after_the_other(count: int) -> list[str]:
    return [await quick(f"q{number}") for number in range(count)]


@durable.workflow
async def only_once() -> list[str | None]:
    return await once()


@durable.workflow
async def looks_around() -> list[str | None]:
    return await looks()


@durable.workflow
async def waits_for_slow() -> str:
    return await slow("s")


@durable.workflow
async def waits_for_slow_after_quick() -> str:
    await quick("q")
    return await slow("s")


@durable.workflow
async def quick_beside_slow() -> list[str]:
    return list(await asyncio.gather(slow("s"), quick("q")))


@durable.workflow
async def wide(count: int) -> list[str]:
    return list(await asyncio.gather(*(quick(f"q{number}") for number in range(count))))


@durable.workflow
async def changes_its_mind() -> str:
    task = asyncio.create_task(slow("s"))
    await go.receive()
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    return await quick("instead")


@durable.workflow
async def calls(which: str) -> Any:
    return await {"later": hands_over, "retry": fails_twice, "beats": beats}[which]()


ALL = (
    quick,
    slow,
    once,
    looks,
    hands_over,
    fails_twice,
    beats,
    one_after_the_other,
    only_once,
    looks_around,
    waits_for_slow,
    waits_for_slow_after_quick,
    quick_beside_slow,
    wide,
    changes_its_mind,
    calls,
)
Rule = Callable[[Scene, pytest.MonkeyPatch], Awaitable[None]]


def die(worker: durable.Worker) -> None:
    """Claim, renew and write no more, and say nothing."""
    assert worker._parts is not None and worker._renewer is not None
    for task in (*worker._claimers, worker._renewer):
        task.cancel()
    for warm in worker._parts.workflow_tasks.cache:
        worker._parts.local.drop(warm)
        worker._parts.workflow_tasks.cache.evict(warm.run_id)


def never_a_row(patch: pytest.MonkeyPatch) -> None:
    """As far as time is concerned."""
    patch.setattr(local_activities, "ROW_AFTER_SECONDS", 600.0)


def waiting(worker: durable.Worker) -> list[Any]:
    """What has neither a row nor a slot."""
    assert worker._parts is not None
    return list(worker._parts.activities._waiting)


async def rule_1_it_starts_when_what_led_to_it_is_durable(scene: Scene, patch: pytest.MonkeyPatch) -> None:
    held, through = asyncio.Event(), asyncio.Event()

    async def commit(method: Any, checkpoints: Any) -> Any:
        held.set()
        await through.wait()
        return await method(checkpoints)

    scene.store.hooks["commit"] = commit
    async with scene.worker(*ALL):
        instance = await scene.client.create_instance(one_after_the_other, 2)
        await held.wait()
        for _ in range(20):
            await asyncio.sleep(0)
        assert scene.ran == ["q0"]
        through.set()
        assert await instance.result(timeout=stores.PATIENCE_SECONDS) == ["q0", "q1"]


async def rule_2_what_may_run_only_once_has_a_row_first(scene: Scene, patch: pytest.MonkeyPatch) -> None:
    async with scene.worker(*ALL) as worker:
        found = await (await scene.client.create_instance(only_once)).result(timeout=stores.PATIENCE_SECONDS)
        assert [lease is not None and lease.startswith(f"{worker.name}/") for lease in found] == [True]


async def rule_2_so_has_what_may_have_killed_a_worker(scene: Scene, patch: pytest.MonkeyPatch) -> None:
    definition = Definition(workflow=looks_around.definition.name)
    dead = Claimant(worker_id="dead", token="t", lease_us=1, queues=("default",), workflows=(definition,))
    instance = await scene.client.create_instance(looks_around)
    assert len((await scene.store.claim_workflow_tasks(dead, 9)).items) == 1
    scene.store.skip(1)
    async with scene.worker(*ALL):
        assert len(await instance.result(timeout=stores.PATIENCE_SECONDS)) == 1
        assert (
            await (await scene.client.create_instance(looks_around)).result(timeout=stores.PATIENCE_SECONDS)
            == []
        )


async def rule_2_more_than_slots_are_open_to_all(scene: Scene, patch: pytest.MonkeyPatch) -> None:
    async with scene.worker(*ALL, max_activities=3):
        instance = await scene.client.create_instance(wide, 5)
        assert await instance.result(timeout=stores.PATIENCE_SECONDS) == [f"q{number}" for number in range(5)]
    leased = [new.lease is not None for new in scene.commits[0].activities]
    assert sorted(leased) == [False, False, True, True, True]


async def rule_2_it_waits_behind_what_has_no_row_either(scene: Scene, patch: pytest.MonkeyPatch) -> None:
    never_a_row(patch)
    worker = scene.worker(*ALL, max_activities=2)
    async with worker:
        holders = [await scene.client.create_instance(waits_for_slow) for _ in range(2)]
        await until(lambda: scene.ran == ["s", "s"], "the start")
        instance = await scene.client.create_instance(wide, 3)
        await until(lambda: len(waiting(worker)) == 3, "those that wait")
        assert (scene.ran, scene.rows()) == (["s", "s"], {})
        scene.gate.set()
        assert await instance.result(timeout=stores.PATIENCE_SECONDS) == ["q0", "q1", "q2"]
        for holder in holders:
            await holder.result(timeout=stores.PATIENCE_SECONDS)
    assert not any(one.activities for one in scene.commits)


async def rule_2_but_not_behind_what_has_one(scene: Scene, patch: pytest.MonkeyPatch) -> None:
    async with scene.worker(*ALL, max_activities=1):
        await scene.client.create_instance(waits_for_slow)
        await until(scene.rows, "the row")
        never_a_row(patch)
        await scene.client.create_instance(wide, 1)
        await until(
            lambda: any(new.lease is None for one in scene.commits for new in one.activities), "its row"
        )
        scene.gate.set()


async def rule_3_the_lease_of_the_run_is_held(scene: Scene, patch: pytest.MonkeyPatch) -> None:
    never_a_row(patch)
    renewed: list[str] = []

    async def extend(method: Any, leases: Any) -> Any:
        renewed.extend(lease.run_id for lease in leases if isinstance(lease, WorkflowLease))
        return await method(leases)

    scene.store.hooks["extend"] = extend
    async with scene.worker(*ALL, lease=0.06):
        instance = await scene.client.create_instance(waits_for_slow)
        await until(lambda: instance.run_id in renewed, "the renewal")
        scene.gate.set()
        await instance.result(timeout=stores.PATIENCE_SECONDS)
        await (await scene.client.create_instance(one_after_the_other, 3)).result(
            timeout=stores.PATIENCE_SECONDS
        )
    kept_back = [one for one in scene.commits if is_open(one.new_head.token)]
    assert len(kept_back) == 2
    assert all(one.lease is not None for one in kept_back)


async def rule_4_a_schedule_without_its_result_has_a_row(scene: Scene, patch: pytest.MonkeyPatch) -> None:
    never_a_row(patch)
    async with scene.worker(*ALL):
        instance = await scene.client.create_instance(quick_beside_slow)
        await until(lambda: scene.commits, "the first checkpoint")
        await until(scene.rows, "the row")
        assert len(scene.rows()) == 1
        assert all(lease is not None and lease.startswith("w/") for lease in scene.rows().values())
        scene.gate.set()
        assert await instance.result(timeout=stores.PATIENCE_SECONDS) == ["s", "q"]
    assert scene.ran == ["s", "q"]
    assert scene.rows() == {}


async def rule_5_it_gets_its_row_after_a_moment(scene: Scene, patch: pytest.MonkeyPatch) -> None:
    async with scene.worker(*ALL):
        instance = await scene.client.create_instance(waits_for_slow)
        await until(lambda: scene.ran, "the start")
        await until(scene.rows, "the row")
        scene.gate.set()
        assert await instance.result(timeout=stores.PATIENCE_SECONDS) == "s"
    assert scene.ran == ["s"]


async def rule_5_what_waits_for_its_slot_is_open_to_all_after_a_moment(
    scene: Scene, patch: pytest.MonkeyPatch
) -> None:
    never_a_row(patch)
    worker = scene.worker(*ALL, max_activities=1)
    async with worker:
        await scene.client.create_instance(waits_for_slow)
        await until(lambda: scene.ran == ["s"], "the start")
        instance = await scene.client.create_instance(wide, 1)
        await until(lambda: waiting(worker), "that it waits")
        assert worker._parts is not None and instance.run_id is not None
        warm = worker._parts.workflow_tasks.cache.get(instance.run_id)
        assert warm is not None
        worker._parts.local._write_rows(warm)  # as its alarm does
        async with durable.Worker(scene.client, [quick, wide], name="v"):
            assert await instance.result(timeout=stores.PATIENCE_SECONDS) == ["q0"]
        assert scene.ran == ["s", "q0"]
        scene.gate.set()


async def rule_5_it_gets_its_row_before_it_is_completed_later(
    scene: Scene, patch: pytest.MonkeyPatch
) -> None:
    never_a_row(patch)
    async with scene.worker(*ALL):
        instance = await scene.client.create_instance(calls, "later")
        assert await instance.result(timeout=stores.PATIENCE_SECONDS) == "from elsewhere"


async def rule_5_it_gets_its_row_before_it_is_retried(scene: Scene, patch: pytest.MonkeyPatch) -> None:
    never_a_row(patch)
    async with scene.worker(*ALL):
        instance = await scene.client.create_instance(calls, "retry")
        assert await instance.result(timeout=stores.PATIENCE_SECONDS) == 3
    assert scene.ran == ["attempt 1", "attempt 2", "attempt 3"]


async def rule_5_what_it_told_before_it_had_a_row_is_stored(scene: Scene, patch: pytest.MonkeyPatch) -> None:
    async with scene.worker(*ALL):
        instance = await scene.client.create_instance(calls, "beats")
        stored = scene.store.real._tables.instances[instance.id].current.activities
        await until(lambda: [row.details for row in stored.values()] == ['"half"'], "the heartbeat")
        scene.gate.set()
        assert await instance.result(timeout=stores.PATIENCE_SECONDS) == "whole"


async def rule_5_it_gets_its_row_at_the_end_of_a_drain(scene: Scene, patch: pytest.MonkeyPatch) -> None:
    never_a_row(patch)
    async with scene.worker(*ALL, shutdown_timeout=0.0):
        instance = await scene.client.create_instance(waits_for_slow)
        await until(lambda: scene.ran, "the start")
    assert list(scene.rows().values()) == [None]
    scene.gate.set()
    async with scene.worker(*ALL):
        assert await instance.result(timeout=stores.PATIENCE_SECONDS) == "s"
    assert scene.ran == ["s", "s cancelled", "s"]


async def rule_6_it_is_cancelled_in_place(scene: Scene, patch: pytest.MonkeyPatch) -> None:
    never_a_row(patch)
    async with scene.worker(*ALL):
        instance = await scene.client.create_instance(changes_its_mind)
        await until(lambda: scene.ran, "the start")
        await instance.signal(go, 1)
        assert await instance.result(timeout=stores.PATIENCE_SECONDS) == "instead"
        await until(lambda: "s cancelled" in scene.ran, "the cancellation")
    assert not any(one.activities or one.withdrawn or one.absorbed for one in scene.commits)
    kinds = [event.kind for event in await instance.history()]
    assert kinds[1:4] == ["activity_scheduled", "signal_received", "activity_cancelled"]


async def rule_6_it_is_cancelled_while_it_waits_for_its_slot(scene: Scene, patch: pytest.MonkeyPatch) -> None:
    never_a_row(patch)
    worker = scene.worker(*ALL, max_activities=1)
    async with worker:
        holder = await scene.client.create_instance(waits_for_slow)
        await until(lambda: scene.ran == ["s"], "the start")
        instance = await scene.client.create_instance(changes_its_mind)
        await until(lambda: waiting(worker), "that it waits")
        await instance.signal(go, 1)
        await until(lambda: scene.commits, "what it does instead")
        scene.gate.set()
        assert await instance.result(timeout=stores.PATIENCE_SECONDS) == "instead"
        await holder.result(timeout=stores.PATIENCE_SECONDS)
    assert sorted(scene.ran) == ["instead", "s"]


async def rule_7_results_without_a_row_are_dropped_with_the_head(
    scene: Scene, patch: pytest.MonkeyPatch
) -> None:
    never_a_row(patch)

    async def lost(method: Any, checkpoints: Any) -> Any:
        scene.store.hooks.pop("commit")
        answer = await method([])
        return replace(answer, items=[Lost() for _ in checkpoints])

    scene.store.hooks["commit"] = lost
    async with scene.worker(*ALL):
        instance = await scene.client.create_instance(quick_beside_slow)
        await until(lambda: scene.ran.count("q") == 2, "the second time")
        scene.gate.set()
        assert await instance.result(timeout=stores.PATIENCE_SECONDS) == ["s", "q"]
    assert sorted(scene.ran) == ["q", "q", "s", "s", "s cancelled"]
    assert "finish_activities" not in scene.store.calls


RULES: list[Rule] = [rule for name, rule in sorted(globals().items()) if name.startswith("rule_")]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
async def test_rule(rule: Rule, monkeypatch: pytest.MonkeyPatch) -> None:
    async with scene() as here:
        await rule(here, monkeypatch)


async def test_what_a_checkpoint_on_its_way_begins_while_the_worker_closes_is_waited_for() -> None:
    async with scene() as here:
        through = asyncio.Event()

        async def held_up(method: Any, checkpoints: Any) -> Any:
            await through.wait()
            return await method(checkpoints)

        here.store.hooks["commit"] = held_up
        worker = here.worker(*ALL, shutdown_timeout=30)
        await worker.__aenter__()
        instance = await here.client.create_instance(waits_for_slow_after_quick)
        await until(lambda: here.ran == ["q"], "the first")
        parts = worker._parts
        assert parts is not None
        closing = asyncio.ensure_future(worker.__aexit__(None, None, None))
        await until(lambda: parts.draining and not parts.activities.abandoned(), "that nothing runs")
        through.set()
        await until(lambda: here.ran[-1] == "s", "what the checkpoint led to")
        here.gate.set()
        await closing
        async with here.worker(*ALL):
            assert await instance.result(timeout=stores.PATIENCE_SECONDS) == "s"
        assert here.ran == ["q", "s"]


async def test_ten_in_sequence_are_ten_checkpoints() -> None:
    async with scene() as here, here.worker(*ALL):
        instance = await here.client.create_instance(one_after_the_other, 10)
        await instance.result(timeout=stores.PATIENCE_SECONDS)
    assert len(here.commits) == 10
    assert not any(one.activities or one.absorbed for one in here.commits)
    assert [len(one.events) for one in here.commits] == [2] * 9 + [3]


async def test_a_fan_out_within_the_slots_is_one_checkpoint() -> None:
    async with scene() as here, here.worker(*ALL):
        instance = await here.client.create_instance(wide, 50)
        await instance.result(timeout=stores.PATIENCE_SECONDS)
    assert len(here.commits) == 1


async def test_switched_off_each_activity_has_a_row() -> None:
    async with scene() as here, here.worker(*ALL, local_activities=False):
        instance = await here.client.create_instance(one_after_the_other, 3)
        await instance.result(timeout=stores.PATIENCE_SECONDS)
        assert (
            len(
                await (await here.client.create_instance(looks_around)).result(
                    timeout=stores.PATIENCE_SECONDS
                )
            )
            == 1
        )
    assert [len(one.activities) for one in here.commits[:4]] == [1, 1, 1, 0]


async def test_paused_what_runs_may_finish_and_nothing_new_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    async with scene() as here, here.worker(*ALL):
        instance = await here.client.create_instance(waits_for_slow)
        await until(lambda: here.ran, "the start")
        await here.store.change([Pause(ref=InstanceRef(instance_id=instance.id))])
        await until(here.rows, "the row")
        here.gate.set()
        await until(lambda: not here.rows(), "the result")
        assert here.ran == ["s"]
        await here.store.change([Resume(ref=InstanceRef(instance_id=instance.id))])
        assert await instance.result(timeout=stores.PATIENCE_SECONDS) == "s"
    assert here.ran == ["s"]


async def test_what_was_kept_back_is_asked_for_again_by_whoever_takes_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A worker dies behind a checkpoint that kept the second activity back: its head says so, and it is run."""
    never_a_row(monkeypatch)
    async with scene() as here:
        on_its_way = asyncio.Event()

        async def never(method: Any, checkpoints: Any) -> Any:
            on_its_way.set()
            await asyncio.Event().wait()

        async def dies(method: Any, checkpoints: Any) -> Any:
            answer = await method(checkpoints)
            here.store.hooks["commit"] = never
            return answer

        here.store.hooks["commit"] = dies
        first = here.worker(*ALL, shutdown_timeout=0.0)
        await first._start()
        instance = await here.client.create_instance(one_after_the_other, 3)
        await on_its_way.wait()
        assert here.ran == ["q0", "q1"]
        del here.store.hooks["commit"]
        assert is_open((await here.client.view(InstanceRef(instance_id=instance.id))).head.token)
        die(first)
        here.store.skip(60)
        async with here.worker(*ALL):
            assert await instance.result(timeout=stores.PATIENCE_SECONDS) == ["q0", "q1", "q2"]
        assert here.ran == ["q0", "q1", "q1", "q2"]
        kinds = [event.kind for event in await instance.history()]
        assert kinds == ["run_started", *["activity_scheduled", "activity_completed"] * 3, "run_completed"]
        durable.testing.replay(one_after_the_other, await here.client.export_history(instance.id))


@durable.workflow
async def in_time() -> str:
    async with asyncio.timeout(60):
        return await slow("s")


async def test_a_fork_of_what_was_kept_back_asks_for_it_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    never_a_row(monkeypatch)
    async with scene() as here, here.worker(*ALL, in_time):
        instance = await here.client.create_instance(in_time)
        await until(lambda: here.ran, "the start")
        assert [event.kind for event in await instance.history()] == ["run_started", "timer_started"]
        durable.testing.replay(in_time, await here.client.export_history(instance.id))
        with pytest.raises(durable.NonDeterminismError):  # of bare events nobody knows that something lacks
            durable.testing.replay(in_time, await instance.history())
        fork = await instance.fork(2)
        await until(lambda: len(here.ran) == 2, "the fork's own")
        here.gate.set()
        assert await fork.result(timeout=5) == await instance.result(timeout=5) == "s"


async def test_what_was_written_wakes_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """A timer an activity would be as many wake-ups of a worker that has nothing else to do."""
    never_a_row(monkeypatch)
    async with scene() as here, here.worker(*ALL) as worker:
        instance = await here.client.create_instance(one_after_the_other, 3)
        assert await instance.result(timeout=stores.PATIENCE_SECONDS) == ["q0", "q1", "q2"]
        assert worker._parts is not None
        local = worker._parts.local
        assert len(local._watched) == 3
        assert local._alarm is not None
        local._alarm.cancel()
        local._look()
        assert (len(local._watched), local._alarm) == (0, None)


@durable.workflow
async def slow_and_then_a_number() -> int:
    await slow("a")
    return await go.receive()


@pytest.mark.parametrize("at", ["claiming", "reading"])
async def test_news_of_a_run_that_is_at_work_is_not_given_back_by_a_worker_that_closes(
    at: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With it the lease of the run would be gone, and another worker would begin its activities again."""
    never_a_row(monkeypatch)
    claimed, goes_on = asyncio.Event(), asyncio.Event()

    async with scene() as here:

        async def claim(method: Any, claimant: Any, limit: int) -> Any:
            answer = await method(claimant, limit)
            if answer.items:
                here.store.hooks.pop("claim_workflow_tasks")
                claimed.set()
                if at == "claiming":
                    await goes_on.wait()
            return answer

        async def read(tasks: Any) -> Any:
            await asyncio.Event().wait()

        closing = here.worker(slow_and_then_a_number, slow, shutdown_timeout=10)
        await closing._start()
        instance = await here.client.create_instance(slow_and_then_a_number)
        await until(lambda: here.ran == ["a"], "the activity's beginning")
        here.store.hooks["claim_workflow_tasks"] = claim
        assert closing._parts is not None
        if at == "reading":  # the history of another run, which came with it
            monkeypatch.setattr(closing._parts.workflow_tasks, "_read", read)
        await instance.signal(go, 7)
        await claimed.wait()
        is_closed = asyncio.ensure_future(closing._close(asyncio.Event()))
        await asyncio.sleep(0)
        goes_on.set()
        async with here.worker(slow_and_then_a_number, slow):
            looks = here.store.calls.count("claim_workflow_tasks")
            await until(
                lambda: here.store.calls.count("claim_workflow_tasks") > looks + 2, "a look of another"
            )
            here.gate.set()
            await is_closed
            assert await instance.result(timeout=stores.PATIENCE_SECONDS) == 7
        assert here.ran == ["a"]


@durable.workflow
async def slow_alone() -> str:
    return await slow("a")


async def test_a_claim_that_comes_behind_the_run_s_end_begins_nothing_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It was answered before the end was written, by the same worker: its head is an old one."""
    never_a_row(monkeypatch)
    claimed, goes_on, came = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async with scene() as here:

        async def claim(method: Any, claimant: Any, limit: int) -> Any:
            answer = await method(claimant, limit)
            if claimed.is_set():
                came.set()
            elif answer.items:
                claimed.set()
                await goes_on.wait()
            return answer

        async with here.worker(slow_alone, slow):
            instance = await here.client.create_instance(slow_alone)
            await until(lambda: here.ran == ["a"], "the activity's beginning")
            here.store.hooks["claim_workflow_tasks"] = claim
            await instance.pause()
            await instance.resume()
            await claimed.wait()
            here.gate.set()
            assert await instance.result(timeout=stores.PATIENCE_SECONDS) == "a"
            goes_on.set()
            await came.wait()
        assert here.ran == ["a"]
