"""What release 0.1.0 recorded: a workflow for each sort of event. Not to be changed, ever: the histories beside it are
those of this very code, and every later engine must follow them.

``python -m tests.histories.v0_1_0`` makes the histories that are missing; it never overwrites one.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio

import durable
from durable.testing import Environment, freeze

FOLDER = Path(__file__).parent / "0.1.0"
stage: durable.Signal[str] = durable.Signal("stage", str)


class OutOfStock(Exception):
    pass


@durable.activity
async def double(value: int) -> int:
    return value * 2


@durable.activity(retry=durable.Retry(max_attempts=2, initial=1, jitter=0))
async def refuse(value: int) -> int:
    raise OutOfStock(f"{value} is out of stock")


@durable.activity
async def endless() -> None:
    await asyncio.Event().wait()


@durable.workflow
async def sequence(count: int) -> int:
    value = 1
    for _ in range(count):
        value = await double(value)
        await asyncio.sleep(60)
    return value


@durable.workflow
async def together(count: int) -> list[int]:
    first = await asyncio.gather(*(double(n) for n in range(count)))
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(double(n), name=f"number {n}") for n in first]
    results = [task.result() for task in tasks]
    async with anyio.create_task_group() as anyio_group:
        anyio_group.start_soon(anyio.sleep, 5)
    for finished in asyncio.as_completed([double(n) for n in results]):
        results.append(await finished)
    return sorted(results)


@durable.workflow
async def failing() -> str:
    try:
        await refuse(1)
    except OutOfStock as error:
        caught = str(error)
    try:
        async with asyncio.timeout(30):
            await endless()
    except TimeoutError:
        return f"{caught}; timed out"
    return "never"


@durable.workflow
async def random_values() -> tuple[str, int, float, list[str]]:
    drawn = durable.side_effect(lambda: 42)
    names = {str(durable.uuid4()) for _ in range(3)}
    return durable.now().isoformat(), drawn, durable.random().random(), sorted(names)


@durable.workflow
async def talking() -> list[str]:
    said: list[str] = []

    @durable.update
    async def say(word: str) -> int:
        await asyncio.sleep(1)
        said.append(word)
        return len(said)

    @say.validator
    def _(word: str) -> None:
        if not word:
            raise ValueError("say something")

    said.append(await stage.receive())
    await durable.wait_condition(lambda: len(said) > 1, timeout=3600)
    await durable.sleep(5, name="the answer goes out")
    durable.set_var("said", said)
    durable.set_status("told")
    durable.publish("words", said)
    return said


@durable.workflow
async def child(value: int) -> int:
    if value < 0:
        raise OutOfStock("no such thing")
    return await double(value)


@durable.workflow
async def waits() -> str:
    return await stage.receive()


@durable.workflow
async def family() -> list[object]:
    found: list[object] = [await child(1)]
    try:
        await child(-1)
    except OutOfStock as error:
        found.append(str(error))
    handle = durable.start(waits, id="waiting", parent_close="cancel")
    await handle.started()
    await handle.signal(stage, "hello")
    found.append(await handle)
    left = durable.start(waits, id="left")
    await left.started()
    try:
        await durable.get_instance("nobody").signal(stage, "x")
    except durable.InstanceNotFound:
        found.append("nobody there")
    return found


@durable.workflow
async def running_on(left: int) -> str:
    await asyncio.sleep(3600)
    if left:
        durable.continue_as_new(left - 1)
    return "arrived"


@durable.workflow
async def patched() -> str:
    if durable.patched("second-way"):
        await double(2)
        return "second way"
    return "first way"


@durable.workflow
async def cleaning_up() -> str:
    try:
        await asyncio.sleep(1_000_000)
    finally:
        await asyncio.shield(double(21))
    return "never"


@durable.workflow
async def racing() -> list[str]:
    order = []
    tasks = {asyncio.create_task(durable.sleep(n % 3), name=f"sleeper {n}") for n in range(6)}
    while tasks:
        done, tasks = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        order += [task.get_name() for task in done]
    async with asyncio.timeout(10):
        queue: asyncio.Queue[int] = asyncio.Queue(1)
        feeder = asyncio.create_task(_feed(queue))
        order += [str(await queue.get()) for _ in range(3)]
        await feeder
    return order


async def _feed(queue: asyncio.Queue[int]) -> None:
    for number in range(3):
        await queue.put(await double(number))


ALL: list[durable.Workflow[..., Any]] = [
    sequence, together, failing, random_values, talking, child, waits, family, running_on, patched, cleaning_up,
    racing,
]  # fmt: skip


async def _record() -> None:
    async with Environment([*ALL, double, refuse]) as env:
        env.mock(endless, takes=float("inf"))
        await env.run(sequence, 3)
        await env.run(together, 3)
        await env.run(failing)
        await env.run(random_values)
        told = await env.start(talking)
        env.signal_at(5, told, stage, "one")
        env.signal_at(6, told, stage, "unread")
        await env.advance(7)
        with contextlib.suppress(durable.UpdateRejected):
            await told.update("say", "")
        await told.update("say", "two")
        await told
        await env.run(family)
        await env.run(running_on, 2)
        await env.run(patched)
        stopped = await env.start(cleaning_up)
        await env.advance(10)
        await stopped.cancel("enough")
        with contextlib.suppress(durable.WorkflowCancelled):
            await stopped
        await env.run(racing)
        ended = await env.start(waits)
        await env.advance(1)
        await ended.terminate("over")
    freeze(FOLDER, [replace(run, text=_of_no_machine(run.text)) for run in env.recorded], "run")


def _of_no_machine(text: str) -> str:
    """Tracebacks name files of the machine that recorded them; nobody reads those here."""
    return re.sub(r'File (\\+")/[^"\\]*/([^/"\\]+)(\\+")', r"File \1\2\3", text)


if __name__ == "__main__":
    from tests.histories import v0_1_0  # under its own name: `__main__` is nobody's module

    asyncio.run(v0_1_0._record())
