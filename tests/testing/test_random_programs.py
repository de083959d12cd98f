"""Workflows that nobody has written: random programs of awaits, with an eviction at every step and crashes anywhere.

A program is a list of steps, plain data, so that a failing one is shrunk by Hypothesis and can be read. Whatever it
does, it must do the same with a cold cache, after a crash, and when it is replayed.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import durable
from durable.client.instance import Instance
from durable.testing import Environment, crash_everywhere
from durable.testing.thorough import replay_thoroughly

word: durable.Signal[int] = durable.Signal("word", int)
Step = list[Any]


class Refused(Exception):
    """What an activity raises."""


@durable.activity
async def echo(value: int) -> int:
    return value


@durable.activity(retry=durable.Retry(max_attempts=2, initial=3))
async def refuse(value: int) -> int:
    raise Refused(str(value))


@durable.activity(retry=durable.Retry(max_attempts=3, initial=3))
async def second_try(value: int) -> int:
    if durable.activity_info().attempt == 1:
        raise Refused("not yet")
    return value


@durable.workflow
async def child(steps: list[Step]) -> list[Any]:
    return await _carry_out(steps)


@durable.workflow
async def program(steps: list[Step]) -> list[Any]:
    return await _carry_out(steps)


async def _carry_out(steps: list[Step]) -> list[Any]:
    return [await _one(*step) for step in steps]


async def _one(kind: str, number: int, inner: list[Step]) -> Any:
    """One step; ``number`` means what the kind makes of it."""
    match kind:
        case "echo":
            return await echo(number)
        case "second try":
            return await second_try(number)
        case "refuse":
            return await _caught(refuse(number))
        case "sleep":
            return await asyncio.sleep(number, "slept")
        case "random":
            return durable.random().random()
        case "side effect":
            return durable.side_effect(lambda: number)
        case "now":
            return durable.now().isoformat()
        case "gather":
            return await asyncio.gather(*(_caught(_one(*step)) for step in inner))
        case "first":
            return await _first_of(inner)
        case "group":
            return await _caught(_group(inner, number))
        case "timeout":
            return await _caught(_within(number, inner))
        case "cancelled":
            return await _cancelled(number, inner)
        case "child":
            return await _caught(child(inner))
        case "word":
            return await _caught(asyncio.wait_for(word.receive(), number + 1))
        case "patched":
            return durable.patched("always")
        case _:
            raise AssertionError(kind)


async def _caught(awaitable: Any) -> Any:
    try:
        return await awaitable
    except (Refused, TimeoutError, durable.DurableError) as error:
        return f"{type(error).__name__}"
    except ExceptionGroup as group:
        return sorted(type(error).__name__ for error in group.exceptions)


async def _first_of(inner: list[Step]) -> Any:
    if not inner:
        return None
    tasks = [asyncio.create_task(_caught(_one(*step))) for step in inner]
    done, left = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)
    return [task.result() for task in tasks if task in done]


async def _group(inner: list[Step], number: int) -> list[Any]:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_one(*step)) for step in inner]
        if number == 3:
            group.create_task(refuse(number))
    return [task.result() for task in tasks]


async def _within(seconds: int, inner: list[Step]) -> list[Any]:
    async with asyncio.timeout(seconds):
        return await _carry_out(inner)


async def _cancelled(seconds: int, inner: list[Step]) -> Any:
    """A task that is cancelled after a time, and cleans up."""

    async def cleaned_up() -> Any:
        try:
            return await _carry_out(inner)
        except asyncio.CancelledError:
            return ["cleaned", await asyncio.shield(echo(seconds))]

    task = asyncio.create_task(cleaned_up())
    await asyncio.sleep(seconds)
    task.cancel()
    return await asyncio.gather(task, return_exceptions=False)


_SIMPLE = ["echo", "second try", "refuse", "sleep", "random", "side effect", "now", "word", "patched"]
_NESTED = ["gather", "first", "group", "timeout", "cancelled", "child"]
_simple = st.tuples(st.sampled_from(_SIMPLE), st.integers(0, 5), st.just([])).map(list)
_steps = st.recursive(
    st.lists(_simple, max_size=3),
    lambda inner: st.lists(
        st.one_of(_simple, st.tuples(st.sampled_from(_NESTED), st.integers(0, 5), inner).map(list)),
        max_size=3,
    ),
    max_leaves=8,
)
_SETTINGS = settings(
    max_examples=20, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)


async def talk(env: Environment, instance: Instance[Any]) -> None:
    for at, value in ((1, 10), (2, 20), (2, 21), (4, 40)):
        env.at(at, lambda value=value: _if_open(instance, value))  # type: ignore[misc]


async def _if_open(instance: Instance[Any], value: int) -> None:
    with contextlib.suppress(durable.InstanceFinished):
        await instance.signal(word, value)


async def _result(steps: list[Step], cache_size: int) -> Any:
    async with Environment([program, child, echo, refuse, second_try], cache_size=cache_size) as env:
        instance = await env.start(program, steps)
        await talk(env, instance)
        result = await instance
        replay_thoroughly(env.recorded)
        return result


@_SETTINGS
@given(_steps)
def test_an_eviction_at_every_step_changes_nothing(steps: list[Step]) -> None:
    assert asyncio.run(_result(steps, 1000)) == asyncio.run(_result(steps, 0))


@_SETTINGS
@given(_steps)
def test_a_crash_anywhere_changes_nothing(steps: list[Step]) -> None:
    definitions: dict[str, Any] = {"activities": [echo, refuse, second_try], "workflows": [child]}
    asyncio.run(crash_everywhere(program, steps, **definitions, drive=talk, crashes=2, most_runs=12))
