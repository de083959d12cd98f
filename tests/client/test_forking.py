from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import durable
from durable.backends.records import Claimant, Definition
from durable.client import Client
from durable.testing import Environment, TimeTravel, replay
from tests.worker.stores import connected, until

go: durable.Signal[str] = durable.Signal("go", str)
executed: Counter[str] = Counter()
release = asyncio.Event()


@durable.activity
async def step(name: str) -> str:
    executed[name] += 1
    return name


@durable.activity
async def held(name: str) -> str:
    executed[name] += 1
    await release.wait()
    return name


@durable.activity(at_most_once=True)
async def careful() -> str:
    executed["careful"] += 1
    await release.wait()
    return "careful"


@durable.workflow(name="ordering")
async def ordering(order: str) -> list[Any]:
    dice = [durable.random().random()]
    names = [await step("pack")]
    dice.append(durable.random().random())
    first, second = await asyncio.gather(held("one"), held("two"))
    word = await go.receive()
    await asyncio.sleep(0.05)
    return [*names, first, second, word, dice, [name async for name in _all({"x", "y", "z"})]]


async def _all(names: set[str]) -> AsyncIterator[str]:
    for name in sorted(names):
        yield name


@durable.workflow(name="ordering")
async def ordering_mended(order: str) -> list[Any]:
    dice = [durable.random().random()]
    names = [await step("pack")]
    return [*names, await step("mended"), dice]


@durable.workflow
async def taking_care() -> str:
    try:
        return await careful()
    except durable.WorkerLost:
        return "lost"


@durable.workflow
async def parent() -> list[Any]:
    return await ordering("x")


@durable.workflow
async def hearing(fails: bool) -> list[str]:
    word = await go.receive()
    name = await held("one")
    if fails:
        raise ArithmeticError(name)
    return [word, name]


@durable.workflow
async def sending(fails: bool, id: str | None) -> list[str] | str:
    child = durable.start(hearing, fails, id=id)
    await child.started()
    await child.signal(go, "sent")
    try:
        return await child
    except ArithmeticError:
        return "it failed"


DEFINITIONS = [ordering, taking_care, parent, hearing, sending, step, held, careful]


@pytest.fixture(params=["memory", "sqlite", "postgres", "mysql"])
async def client(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Client]:
    executed.clear()
    global release
    release = asyncio.Event()
    async with AsyncExitStack() as stack:
        url = "memory://" if request.param == "memory" else f"sqlite:///{tmp_path}/fork.db"
        if request.param in ("postgres", "mysql"):
            server = request.getfixturevalue(f"{request.param}_server")
            url = await stack.enter_async_context(server.database())
        yield await stack.enter_async_context(durable.connect(url))


async def _finished(client: Client) -> durable.Instance[list[Any]]:
    release.set()
    original = await client.create_instance(ordering, "o-1", id="o-1", tags={"shop": "eu"})
    await original.signal(go, "now")
    await original.result(timeout=10)
    return original


def _number(history: list[durable.HistoryEvent], kind: str, nth: int = 1) -> int:
    return [event.number for event in history if event.kind == kind][nth - 1]


async def _eventually(original: durable.Instance[Any], kind: str, nth: int = 1) -> int:
    """A schedule is written with its result, or when that takes long."""
    while True:
        history = await original.history()
        if [event.kind for event in history].count(kind) >= nth:
            return _number(history, kind, nth)


async def test_every_event_is_forked_or_refused(client: Client) -> None:
    async with durable.Worker(client, DEFINITIONS):  # type: ignore[list-item]
        original = await _finished(client)
        expected, history = await original, await original.history()
        forked = 0
        for event in history:
            try:
                fork = await original.fork(event.number)
            except ValueError as refused:
                assert "middle of a step" in str(refused) or "ends there" in str(refused)
                continue
            forked += 1
            if event.number < _number(history, "signal_received"):
                await fork.signal(go, "now")
            assert await fork.result(timeout=10) == expected, event
            kept = (await fork.history())[: event.number]
            assert [one.kind for one in kept] == [one.kind for one in history[: event.number]]
            assert [one.time for one in kept] == [one.time for one in history[: event.number]]
            assert (await fork.describe()).tags == {"shop": "eu"}
        assert forked >= 8
    assert await client.audit() == []


async def test_what_was_over_is_not_done_again_and_what_was_not_is(client: Client) -> None:
    async with durable.Worker(client, DEFINITIONS):  # type: ignore[list-item]
        original = await client.create_instance(ordering, "o-1")
        await until(lambda: executed["two"], "the second step")
        at = await _eventually(original, "activity_scheduled", 3)
        fork = await original.fork(at, id="o-1-again")
        await until(lambda: executed["one"] == executed["two"] == 2, "the fork's own steps")
        assert executed["pack"] == 1
        release.set()
        await fork.signal(go, "fork")
        assert (await fork.result(timeout=10))[3] == "fork"
        await original.signal(go, "original")
        assert (await original.result(timeout=10))[3] == "original"
    assert (await client.get_instance("o-1-again").describe()).state == "completed"
    assert executed == {"pack": 1, "one": 2, "two": 2}


async def test_mended_code_decides_anew_at_an_input(client: Client) -> None:
    async with durable.Worker(client, DEFINITIONS):  # type: ignore[list-item]
        original = await _finished(client)
        expected = await original
    async with durable.Worker(client, [ordering_mended, step]):
        at = _number(await original.history(), "activity_completed")
        fork = await original.fork(at)
        assert await fork.result(timeout=10) == ["pack", "mended", expected[4][:1]]
        forks_fork = await fork.fork(at)
        assert await forks_fork.result(timeout=10) == ["pack", "mended", expected[4][:1]]


async def test_what_is_at_most_once_does_not_begin_a_second_time(client: Client) -> None:
    async with durable.Worker(client, DEFINITIONS):  # type: ignore[list-item]
        original = await client.create_instance(taking_care)
        await until(lambda: executed["careful"], "the careful step")
        fork = await original.fork(2)
        assert await fork.result(timeout=10) == "lost"
        release.set()
        assert await original.result(timeout=10) == "careful"
    assert executed["careful"] == 1


async def test_a_child_that_still_runs_is_in_the_way(client: Client) -> None:
    async with durable.Worker(client, DEFINITIONS):  # type: ignore[list-item]
        original = await client.create_instance(parent)
        await until(lambda: executed["one"], "the child")
        history = await original.history()
        with pytest.raises(ValueError, match=r"its child .* runs there and still does"):
            await original.fork(len(history))
        fork = await original.fork(1)
        await until(lambda: executed["one"] == 2, "the fork's own child")
        for instance in (original, fork):
            await instance.terminate()
        release.set()


async def _behind(original: durable.Instance[Any], kind: str) -> int:
    await _eventually(original, kind)
    return _number(await original.history(), kind)


@pytest.mark.parametrize("fails", [False, True])
async def test_a_fork_is_told_of_the_end_of_a_child_that_has_ended_since(client: Client, fails: bool) -> None:
    async with durable.Worker(client, DEFINITIONS):  # type: ignore[list-item]
        original = await client.create_instance(sending, fails, None)
        at = await _behind(original, "send_resolved")
        release.set()
        expected = await original.result(timeout=10)
        assert expected == ("it failed" if fails else ["sent", "one"])
        fork = await original.fork(at)
        assert await fork.result(timeout=10) == expected
        assert executed["one"] == 1  # a child is begun once
    assert await client.audit() == []


@pytest.mark.parametrize("id", [None, "a-child"])
async def test_a_child_that_was_cut_off_is_begun_again_with_what_it_had_been_sent(
    client: Client, id: str | None
) -> None:
    async with durable.Worker(client, DEFINITIONS):  # type: ignore[list-item]
        original = await client.create_instance(sending, False, id)
        at = await _behind(original, "send_resolved")
        await until(lambda: executed["one"], "the child's step")
        await original.terminate()
        child_id = id or f"{original.run_id}/1"
        await until(partial(_has_ended, client.get_instance(child_id)), "the child's end")
        fork = await original.fork(at)
        await until(lambda: executed["one"] == 2, "the child's step, again")
        own_id = id or f"{fork.run_id}/1"
        child = await client.get_instance(own_id).describe()
        assert child.state == "running"
        scheduled = next(e for e in await fork.history() if e.kind == "child_scheduled")
        assert (scheduled.fields["instance_id"], scheduled.fields["run_id"]) == (own_id, child.run_id)
        release.set()
        assert await fork.result(timeout=10) == ["sent", "one"]
        assert (await client.get_instance(own_id).describe()).state == "completed"
    assert executed["one"] == 2
    assert await client.audit() == []


async def _has_ended(instance: durable.Instance[Any]) -> bool:
    return (await instance.describe()).state == "terminated"


async def test_a_child_that_is_to_be_begun_again_needs_its_id_and_its_beginning(client: Client) -> None:
    async with durable.Worker(client, DEFINITIONS):  # type: ignore[list-item]
        original = await client.create_instance(sending, False, "a-child")
        at = await _behind(original, "child_started")
        await original.terminate()
        child = client.get_instance("a-child")
        await until(partial(_has_ended, child), "the child's end")
        usurper = await client.create_instance(ordering, "o", id="a-child")
        with pytest.raises(ValueError, match="somebody else has its id now"):
            await original.fork(at)
        await usurper.terminate()
        await child.delete()
        with pytest.raises(ValueError, match="is not there, so that nobody knows how it ended"):
            await original.fork(at)


async def test_what_cannot_be_forked(client: Client) -> None:
    async with durable.Worker(client, DEFINITIONS):  # type: ignore[list-item]
        original = await _finished(client)
        history = await original.history()
        for at in (0, len(history) + 1, -1, True):
            with pytest.raises(ValueError, match="has events 1 to"):
                await original.fork(at)
        with pytest.raises(ValueError, match="the run ends there"):
            await original.fork(len(history))
        with pytest.raises(ValueError, match=r"in the middle of a step\. Fork it at \d+, where"):
            await original.fork(_number(history, "activity_scheduled", 2))
        with pytest.raises(durable.InstanceNotFound):
            await client.get_instance("nobody").fork(1)
        second = await client.create_instance(ordering, "x", id="taken")
        with pytest.raises(durable.InstanceAlreadyExists):
            await original.fork(1, id="taken")
        await second.terminate()


async def test_a_fork_that_nobody_has_worked_on_is_asked_and_audited(client: Client) -> None:
    async with durable.Worker(client, DEFINITIONS):  # type: ignore[list-item]
        original = await _finished(client)
    fork = await original.fork(_number(await original.history(), "activity_completed", 2))
    assert (await fork.describe()).state == "running"
    assert await client.audit() == []
    replay(ordering, await client.export_history(fork.id))
    travel = TimeTravel(ordering, await client.export_history(fork.id))
    travel.goto(len(travel.history))
    assert travel.number == len(travel.history) - 1
    travel.close()


async def test_timers_of_a_fork_count_on() -> None:
    async with Environment([ordering, step, held]) as env:
        release.set()
        original = await env.start(ordering, "o-1")
        await original.signal(go, "now")
        await env.settle()
        fork = await original.fork(len(await env.history(original)))
        await env.advance(0.04)
        assert (await fork.describe()).state == "running"
        await env.advance(0.02)
        assert (await fork.describe()).state == "completed"


async def test_nobody_has_a_fork_before_its_activities_are_scheduled() -> None:
    """A worker that took it in between would find that the code asks for what is not there."""
    release.set()
    async with connected() as (client, store):
        async with durable.Worker(client, DEFINITIONS):  # type: ignore[list-item]
            original = await client.create_instance(ordering, "o-1")
            await original.signal(go, "now")
            await original
        claimed: list[object] = []

        async def look(commit: Any, checkpoints: Any) -> Any:
            names = (Definition(workflow="ordering", version="", build=""),)
            claimant = Claimant(
                worker_id="w", token="t", lease_us=1, queues=("default",), workflows=names, activities=()
            )
            claimed.append((await store.real.claim_workflow_tasks(claimant, 10)).items)
            return await commit(checkpoints)

        store.hooks["commit"] = look
        fork = await original.fork(_number(await original.history(), "activity_completed", 2))
        assert claimed == [[]]
        del store.hooks["commit"]
        async with durable.Worker(client, DEFINITIONS):  # type: ignore[list-item]
            await fork.signal(go, "now")
            assert await fork.result(timeout=10) == await original
