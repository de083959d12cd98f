"""asyncio's own semaphores, conditions and barriers in workflows: what they let through follows history alone."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

import durable
from tests.core.runs import alive, cancel, done, fired, run, signal


@durable.activity
async def load(name: str) -> str:
    raise AssertionError("activities do not run here")


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    yield
    while alive:
        alive.pop().drop()


@durable.workflow
async def two_at_a_time(names: list[str], bounded: bool) -> list[str]:
    places = asyncio.BoundedSemaphore(2) if bounded else asyncio.Semaphore(2)
    ended: list[str] = []

    async def one(name: str) -> None:
        async with places:
            ended.append(await load(name))

    await asyncio.gather(*(one(name) for name in names))
    return ended


@pytest.mark.parametrize("bounded", [False, True])
def test_a_semaphore_lets_in_as_many_as_it_says_in_order(bounded: bool) -> None:
    inputs = [done(2, "B"), done(3, "C"), done(1, "A"), done(4, "D")]
    assert run(two_at_a_time, inputs, ["a", "b", "c", "d"], bounded) == [
        'activity 1 load ["a"]',
        'activity 2 load ["b"]',
        'activity 3 load ["c"]',
        'activity 4 load ["d"]',
        'completed ["B","C","A","D"]',
    ]


@durable.workflow
async def released_too_often() -> str:
    places = asyncio.BoundedSemaphore(1)
    async with places:
        await load("a")
    try:
        places.release()
    except ValueError as error:
        return str(error)
    return "nothing"


def test_a_bounded_semaphore_is_not_released_too_often() -> None:
    said = run(released_too_often, [done(1, "A")])
    assert said == ['activity 1 load ["a"]', 'completed "BoundedSemaphore released too many times"']


@durable.workflow
async def waits_for_a_place() -> list[str]:
    places, seen = asyncio.Semaphore(1), []

    async def one(name: str) -> None:
        try:
            async with places:
                seen.append(await load(name))
        except asyncio.CancelledError:
            seen.append(f"{name} cancelled")
            raise

    tasks = [asyncio.create_task(one(name)) for name in "abc"]
    await go.receive()
    tasks[1].cancel()
    await asyncio.wait(tasks)
    return seen


go: durable.Signal[None] = durable.Signal("go", None)


def test_who_is_cancelled_while_it_waits_for_a_place_takes_none() -> None:
    assert run(waits_for_a_place, [signal("go"), done(1, "A"), done(2, "C")]) == [
        'activity 1 load ["a"]',
        'activity 2 load ["c"]',
        'completed ["b cancelled","A","C"]',
    ]


@durable.workflow
async def producers_and_consumers() -> list[str]:
    condition, stock, seen = asyncio.Condition(), list[str](), list[str]()

    async def consume(name: str) -> None:
        async with condition:
            await condition.wait_for(lambda: bool(stock))
            seen.append(f"{name}:{stock.pop(0)}")

    async def produce(what: str) -> None:
        found = await load(what)
        async with condition:
            stock.append(found)
            condition.notify()

    async with asyncio.TaskGroup() as group:
        for name in "xyz":
            group.create_task(consume(name))
        for what in "abc":
            group.create_task(produce(what))
    return seen


def test_a_condition_wakes_those_who_wait_in_order() -> None:
    assert run(producers_and_consumers, [done(3, "C"), done(1, "A"), done(2, "B")]) == [
        'activity 1 load ["a"]',
        'activity 2 load ["b"]',
        'activity 3 load ["c"]',
        'completed ["x:C","y:A","z:B"]',
    ]


@durable.workflow
async def patient() -> str:
    condition = asyncio.Condition()
    async with condition:
        try:
            async with asyncio.timeout(5):
                await condition.wait()
        except TimeoutError:
            return f"{condition.locked()}"
    return "woken"


def test_a_condition_that_nobody_tells_is_left_at_the_time_out_with_its_lock_held() -> None:
    assert run(patient, [fired(1, time=5)]) == ["timer 1 +5.0", 'completed "True"']


@durable.workflow
async def in_step(parties: int) -> list[str]:
    barrier, seen = asyncio.Barrier(parties), []

    async def one(name: str) -> None:
        for turn in range(2):
            found = await load(f"{name}{turn}")
            place = await barrier.wait()
            seen.append(f"{found}@{place}")

    await asyncio.gather(*(one(name) for name in "ab"))
    return seen


def test_a_barrier_holds_until_all_have_come_and_again() -> None:
    assert run(in_step, [done(2, "B0"), done(1, "A0"), done(3, "1st"), done(4, "2nd")], 2) == [
        'activity 1 load ["a0"]',
        'activity 2 load ["b0"]',
        'activity 3 load ["a1"]',
        'activity 4 load ["b1"]',
        'completed ["A0@1","B0@0","2nd@1","1st@0"]',
    ]


@durable.workflow
async def broken() -> list[str]:
    barrier, seen = asyncio.Barrier(3), []

    async def one(name: str) -> None:
        try:
            await barrier.wait()
        except asyncio.BrokenBarrierError:
            seen.append(name)

    tasks = [asyncio.create_task(one(name)) for name in "ab"]
    try:
        await load("a")
    finally:
        await barrier.abort()
        await asyncio.gather(*tasks)
    return seen


@pytest.mark.parametrize("cancelled", [False, True])
def test_a_barrier_that_is_broken_lets_all_go(cancelled: bool) -> None:
    said = run(broken, [cancel()] if cancelled else [done(1, "A")])
    end = ["cancel activity 1", "cancelled"] if cancelled else ['completed ["a","b"]']
    assert said == ['activity 1 load ["a"]', *end]
