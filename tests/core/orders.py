"""Prints the orders in which things happen in a run, as JSON. Started by `test_ordering` in processes of its own.

Arguments: a seed for the disturbance of the heap, so that objects get other addresses in every process.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
from collections.abc import AsyncIterator, Iterable
from typing import Any

import anyio

from tests.core.hosts import Host, run

_disturbance = random.Random(sys.argv[1] if len(sys.argv) > 1 else "0")
_kept: list[object] = []


class _Filler:
    """Of the size of tasks, futures and scopes, more or less."""

    def __init__(self, attributes: int) -> None:
        self.__dict__.update({f"a{i}": object() for i in range(attributes)})


def disturb() -> None:
    """Fill the heap and free parts of it, so that addresses are in no order."""
    made: list[object] = []
    for _ in range(100):
        made.append(_Filler(_disturbance.randrange(12)))
        made.append(bytearray(_disturbance.randrange(16, 500)))
        made.append([None] * _disturbance.randrange(40))
    _disturbance.shuffle(made)
    _kept.extend(made[:100])
    del _kept[:-2_000]


def move_in(neighbours: list[Host]) -> None:
    """Other runs of the process, parked: their tasks stand in the same weak set of asyncio's."""

    async def parked(host: Host) -> None:
        await host.call("never")

    for _ in range(_disturbance.choice([0, 10, 100, 300])):
        neighbours.append(host := Host(f"neighbour {_disturbance.random()}"))
        host.start(parked(host))
    _disturbance.shuffle(neighbours)
    stay = _disturbance.randrange(300)
    for host in neighbours[stay:]:
        host.loop.drop()
    del neighbours[stay:]


def skip_numbers(host: Host) -> None:
    """So that the hashes of what is made next fall on one another in a small set, where order of insertion counts."""
    for _ in range(63 if len(host.loop.tasks) % 3 else 190):
        host.loop.next_hash()


async def _named(host: Host, name: str) -> str:
    disturb()
    await asyncio.sleep(1)
    return name


def _tasks(host: Host, count: int = 24) -> set[asyncio.Task[str]]:
    made = set()
    for index in range(count):
        disturb()
        if index % 2:
            skip_numbers(host)
        made.add(asyncio.create_task(_named(host, f"t{index}"), name=f"t{index}"))
    return made


def _names(tasks: Iterable[asyncio.Task[Any]]) -> list[str]:
    return [task.get_name() for task in tasks]


async def wait_over_sets(host: Host) -> list[str]:
    done, pending = await asyncio.wait(_tasks(host), return_when=asyncio.FIRST_COMPLETED)
    seen = [*_names(done), "|", *_names(pending), "|"]
    done, pending = await asyncio.wait(pending)
    return seen + _names(done)


async def as_completed(host: Host) -> list[str]:
    order: list[str] = []

    async def child(index: int) -> int:
        disturb()
        order.append(f"start{index}")
        return index

    coroutines = []
    for index in range(24):
        disturb()
        coroutines.append(child(index))
    for next_one in asyncio.as_completed(coroutines):
        order.append(str(await next_one))
    return order


async def as_completed_of_tasks(host: Host) -> list[str]:
    return [await next_one for next_one in asyncio.as_completed(_tasks(host))]


async def gathers_in_a_set(host: Host) -> list[str]:
    outers: dict[asyncio.Future[list[str]], str] = {}
    for index in range(24):
        disturb()
        outers[asyncio.gather(_named(host, f"g{index}"), _named(host, f"h{index}"))] = f"g{index}"
    order = [outers[outer] for outer in set(outers)]
    done, _ = await asyncio.wait(outers)
    return order + [future.result()[0] for future in done]


async def futures_in_a_set(host: Host) -> list[str]:
    futures = {}
    for index in range(24):
        disturb()
        futures[host.loop.create_future()] = f"f{index}"
    return [futures[future] for future in set(futures)]


async def task_group_abort(host: Host) -> list[str]:
    order: list[str] = []

    async def child(index: int) -> None:
        try:
            await asyncio.sleep(1_000)
        finally:
            disturb()
            order.append(f"c{index}")

    async def failing() -> None:
        await asyncio.sleep(1)
        raise ValueError

    try:
        async with asyncio.TaskGroup() as group:
            for index in range(24):
                disturb()
                group.create_task(child(index))
            group.create_task(failing())
    except* ValueError:
        pass
    return order


async def anyio_group(host: Host) -> list[str]:
    order: list[str] = []

    async def child(index: int) -> None:
        with anyio.CancelScope():
            try:
                await anyio.sleep(1_000)
            finally:
                disturb()
                order.append(f"c{index}")

    with anyio.move_on_after(1):
        async with anyio.create_task_group() as group:
            for index in range(24):
                disturb()
                group.start_soon(child, index)
    return order


async def anyio_nested_groups(host: Host) -> list[str]:
    order: list[str] = []

    async def leaf(name: str) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            disturb()
            order.append(name)

    async def branch(index: int) -> None:
        disturb()
        async with anyio.create_task_group() as group:
            for leaf_index in range(4):
                disturb()
                group.start_soon(leaf, f"b{index}.{leaf_index}")

    async with anyio.create_task_group() as group:
        for index in range(10):
            disturb()
            group.start_soon(branch, index)
        await anyio.sleep(1)
        group.cancel_scope.cancel()
    return order


async def anyio_scopes_and_handles_in_sets(host: Host) -> list[str]:
    scopes = {}
    handles = {}
    async with anyio.create_task_group() as group:
        for index in range(24):
            disturb()
            scopes[anyio.CancelScope()] = f"s{index}"
            handles[group.create_task(_named(host, f"h{index}"))] = f"h{index}"
    return [scopes[scope] for scope in set(scopes)] + [handles[handle] for handle in set(handles)]


async def all_tasks(host: Host) -> list[str]:
    tasks = _tasks(host)
    await asyncio.sleep(0)
    order = _names(asyncio.all_tasks())
    await asyncio.wait(tasks)
    return order


async def cancelling_all_tasks(host: Host) -> list[str]:
    order: list[str] = []

    async def child(index: int) -> None:
        try:
            await asyncio.sleep(1_000)
        finally:
            order.append(f"c{index}")

    tasks = set()
    for index in range(24):
        disturb()
        tasks.add(asyncio.create_task(child(index)))
    await asyncio.sleep(0)
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        task.cancel()
    await asyncio.wait(tasks)
    return order


async def async_generators(host: Host) -> list[str]:
    order: list[str] = []

    async def numbers(index: int) -> AsyncIterator[int]:
        try:
            yield index
            yield index
        finally:
            disturb()
            await asyncio.sleep(0)
            order.append(f"n{index}")

    generators = []
    for index in range(12):
        disturb()
        generators.append(numbers(index))
        await anext(generators[-1])
    generators.clear()
    await asyncio.sleep(1)
    return order


SCENARIOS = (
    wait_over_sets,
    as_completed,
    as_completed_of_tasks,
    gathers_in_a_set,
    futures_in_a_set,
    task_group_abort,
    anyio_group,
    anyio_nested_groups,
    anyio_scopes_and_handles_in_sets,
    all_tasks,
    cancelling_all_tasks,
    async_generators,
)

# Several, because where a run's hashes begin decides which of them fall on one another.
RUN_IDS = ("run", "another run", "a third", "order-4")

if __name__ == "__main__":
    disturb()
    neighbours: list[Host] = []
    orders = {}
    for scenario in SCENARIOS:
        for run_id in RUN_IDS:
            move_in(neighbours)
            orders[f"{scenario.__name__} of {run_id}"] = run(scenario, run_id)
    for neighbour in neighbours:
        neighbour.loop.drop()
    print(json.dumps(orders))  # noqa: T201
