from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest

import durable
from durable.client.instance import Instance
from durable.core.replay import Run
from durable.testing import Broken, Environment, crash_everywhere
from durable.worker.activity_tasks import ActivityTasks

go: durable.Signal[str] = durable.Signal("go", str)
counted = 0
replays = 0


@durable.activity
async def double(value: int) -> int:
    return value * 2


@durable.activity
def double_in_thread(value: int) -> int:
    return value * 2


@durable.activity
async def count() -> int:
    global counted
    counted += 1
    return counted


@durable.activity(at_most_once=True)
async def once() -> str:
    return "once"


@durable.activity(retry=durable.Retry(max_attempts=2))
async def flaky() -> str:
    if durable.activity_info().attempt == 1:
        raise ConnectionError("try again")
    return "second try"


@durable.workflow
async def child(value: int) -> int:
    return await double(value)


@durable.workflow
async def everything(value: int) -> list[Any]:
    durable.set_status("begun")
    some = await asyncio.gather(double(value), double_in_thread(value), child(value))
    heard = await go.receive()
    await asyncio.sleep(3600)
    durable.publish("done", heard)
    return [some, heard, await flaky(), durable.random().random(), durable.now().isoformat()]


async def say_go(env: Environment, instance: Instance[Any]) -> None:
    env.signal_at(60, instance, go, "now")


async def test_a_sound_workflow_survives_every_crash() -> None:
    found = await crash_everywhere(everything, 3, drive=say_go)
    assert len(found.points) > 20
    assert found.runs == len(found.points) + 1
    result = found.outcome[next(key for key in found.outcome if key.startswith("crashed/"))]
    assert result["state"] == "completed" and result["result"].startswith('[[6,6,6],"now","second try",')


async def test_the_dead_leave_nothing_behind(caplog: pytest.LogCaptureFixture) -> None:
    await crash_everywhere(child, 3, activities=[double])
    gc.collect()
    assert "Task was destroyed" not in caplog.text
    assert [task for task in asyncio.all_tasks() if task is not asyncio.current_task()] == []


async def test_two_crashes() -> None:
    found = await crash_everywhere(child, 3, activities=[double], crashes=2)
    assert found.runs > len(found.points) * (len(found.points) - 1) / 2


async def test_the_next_worker_serves_the_same_queues() -> None:
    @durable.workflow(queue="eu")
    async def routed() -> int:
        return await double.options(queue="us")(2)

    await crash_everywhere(routed, patience=0.05)


async def test_a_failure_must_be_the_same_failure() -> None:
    @durable.workflow
    async def fails() -> None:
        await double(1)
        raise LookupError("nothing there")

    found = await crash_everywhere(fails)
    assert "nothing there" in str(found.outcome)


async def test_an_activity_that_must_not_be_repeated_is_found() -> None:
    @durable.workflow
    async def counts() -> int:
        await double(1)
        return await count()

    def back_to_zero(_: Environment) -> None:
        global counted
        counted = 0

    with pytest.raises(Broken, match=r"(?s)'1'.*'2'.*'count' began 1 more time") as found:
        await crash_everywhere(counts, setup=back_to_zero)
    assert found.value.points == ("activity 'count', call 1: over, nothing recorded",)


async def test_state_outside_of_the_run_is_found() -> None:
    @durable.workflow
    async def remembers() -> int:
        global replays
        replays += 1
        await double(1)
        return replays

    def back_to_zero(_: Environment) -> None:
        global replays
        replays = 0

    with pytest.raises(Broken):
        await crash_everywhere(remembers, setup=back_to_zero)


async def test_what_is_at_most_once_is_lost_and_not_repeated() -> None:
    @durable.workflow
    async def careful() -> str:
        try:
            return await once()
        except durable.WorkerLost:
            return "lost"

    with pytest.raises(Broken, match=r'(?s)"once".*"lost"') as found:
        await crash_everywhere(careful)
    assert "taken, not begun" in found.value.points[0] or "behind commit" in found.value.points[0]


async def test_an_engine_that_repeats_what_is_at_most_once_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    @durable.workflow
    async def careful() -> str:
        return await once()

    monkeypatch.setattr(ActivityTasks, "_not_to_be_run", lambda self, attempt: None)
    with pytest.raises(Broken, match="began 2 times, but is at_most_once"):
        await crash_everywhere(careful)


async def test_an_engine_that_loses_a_signal_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The planted bug: a run that is loaded again has forgotten the signals that nobody had received yet."""

    @durable.workflow
    async def late() -> str:
        await asyncio.sleep(100)
        return await go.receive()

    replay = Run.replay

    def forgetful(self: Run, *args: Any, **kwargs: Any) -> None:
        replay(self, *args, **kwargs)
        for inbox in self.context.inboxes.values():
            inbox.payloads.clear()

    monkeypatch.setattr(Run, "replay", forgetful)
    with pytest.raises(Broken, match="waits for ever") as found:
        await crash_everywhere(late, drive=say_go, patience=0.01)
    assert len(found.value.points) == 1


async def test_mocks_are_set_up_anew_for_each_run() -> None:
    found = await crash_everywhere(
        child, 3, activities=[double], setup=lambda env: env.mock(double, side_effect=[1, 1])
    )
    assert "1" in str(found.outcome)
