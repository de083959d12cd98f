from __future__ import annotations

import asyncio
import gc
import json
import os
import statistics
import subprocess
import sys
import weakref
from pathlib import Path
from time import perf_counter
from typing import Any

import anyio
import pytest
from anyio._backends import _asyncio as anyio_backend

from durable.core.loop import WorkflowLoop
from durable.errors import ForbiddenInWorkflow
from tests.core.hosts import Host, run

ROOT = Path(__file__).parents[2]


def _orders(hash_seed: str, heap_seed: str) -> dict[str, list[str]]:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "tests.core.orders", heap_seed],
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def first() -> dict[str, list[str]]:
    return _orders("0", "a")


@pytest.mark.parametrize(("hash_seed", "heap_seed"), [("0", "b"), ("1", "c"), ("4242", "d"), ("7", "a")])
def test_every_process_sees_one_order(first: dict[str, list[str]], hash_seed: str, heap_seed: str) -> None:
    other = _orders(hash_seed, heap_seed)
    assert other.keys() == first.keys()
    for scenario, order in first.items():
        assert other[scenario] == order, scenario


async def _parked(host: Host) -> None:
    await asyncio.wait({asyncio.create_task(host.call("a")), asyncio.create_task(host.call("b"))})


def test_many_warm_runs_cost_no_more_than_few() -> None:
    hosts: list[Host] = []
    per_chunk: list[float] = []
    gc.collect()
    gc.disable()
    try:
        for chunk in range(50):
            began = perf_counter()
            for index in range(1_000):
                host = Host(f"order-{chunk * 1_000 + index}")
                host.start(_parked(host))
                hosts.append(host)
            per_chunk.append(perf_counter() - began)
    finally:
        gc.enable()
    for host in hosts:
        host.loop.drop()
    # With equal hashes the last thousand took three hundred times as long as the first.
    assert statistics.median(per_chunk[-10:]) < 4 * statistics.median(per_chunk[:10])


def test_runs_hash_differently() -> None:
    hashes: set[int] = set()
    loops = []
    for index in range(2_000):
        loops.append(loop := Host(f"order-{index}").loop)
        hashes |= {hash(loop.create_future()) for _ in range(3)}
    assert len(hashes) == 6_000
    assert len({value % 4_096 for value in hashes}) > 2_000


def test_a_hash_is_a_matter_of_run_and_number() -> None:
    one, two = Host("run").loop, Host("run").loop
    assert [hash(one.create_future()) for _ in range(3)] == [hash(two.create_future()) for _ in range(3)]
    future = one.create_future()
    assert future == future
    assert future != two.create_future()


def test_as_completed_refuses_a_set_of_coroutines() -> None:
    async def main(host: Host) -> str:
        coroutines = {asyncio.sleep(1), asyncio.sleep(2)}
        try:
            asyncio.as_completed(coroutines)
        except ForbiddenInWorkflow as error:
            return str(error)
        finally:
            for coroutine in coroutines:
                coroutine.close()
        return "accepted"

    assert "give it a list" in run(main)


def test_as_completed_takes_a_set_of_tasks_an_iterator_and_duplicates() -> None:
    async def child(value: int) -> int:
        return value

    async def main(host: Host) -> tuple[list[int], list[int], int]:
        tasks = {asyncio.create_task(child(index)) for index in range(5)}
        of_set = [await one for one in asyncio.as_completed(tasks)]
        of_iterator = [await one for one in asyncio.as_completed(map(child, range(5)))]
        coroutine = child(1)
        twice = len(list(map(_close, asyncio.as_completed([coroutine, coroutine]))))
        return of_set, of_iterator, twice

    def _close(one: Any) -> None:
        one.close()

    assert run(main) == ([0, 1, 2, 3, 4], [0, 1, 2, 3, 4], 1)


@pytest.mark.skipif(
    sys.version_info < (3, 13), reason="as_completed is an asynchronous iterator from Python 3.13 on"
)
def test_as_completed_is_an_asynchronous_iterator_too() -> None:
    async def main(host: Host) -> bool:
        tasks = [asyncio.create_task(asyncio.sleep(1)) for _ in range(3)]
        return [task async for task in asyncio.as_completed(tasks)] == tasks

    assert run(main)


def test_as_completed_times_out() -> None:
    async def main(host: Host) -> str:
        try:
            for one in asyncio.as_completed([asyncio.sleep(5), asyncio.sleep(50)], timeout=10):
                await one
        except TimeoutError:
            return f"after {host.loop.time()}"
        return "never"

    assert run(main) == "after 10.0"


def test_as_completed_refuses_what_the_original_refuses() -> None:
    async def main(host: Host) -> None:
        coroutine = asyncio.sleep(1)
        with pytest.raises(TypeError):
            list(asyncio.as_completed(coroutine))  # type: ignore[arg-type]
        coroutine.close()

    run(main)


async def test_outside_of_a_run_nothing_has_changed() -> None:
    done = {await one for one in asyncio.as_completed({asyncio.sleep(0, 1), asyncio.sleep(0, 2)})}
    assert done == {1, 2}
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert asyncio.all_tasks(asyncio.get_running_loop()) == {asyncio.current_task()}
    outer = asyncio.gather(asyncio.sleep(0))
    assert hash(outer) == object.__hash__(outer)
    await outer
    scope = anyio.CancelScope()
    assert type(scope) is anyio_backend.CancelScope
    assert hash(scope) == object.__hash__(scope)
    async with anyio.create_task_group() as group:
        handle = group.create_task(asyncio.sleep(0))
        assert handle in {handle}


def test_all_tasks_of_a_parked_run_are_found_from_outside() -> None:
    host = Host()
    main = host.start(host.call("a"))
    assert asyncio.all_tasks(host.loop) == {main}
    host.answer("a")
    assert asyncio.all_tasks(host.loop) == set()


def test_scopes_made_in_a_run_work_as_any() -> None:
    async def main(host: Host) -> list[object]:
        seen: list[object] = []
        with anyio.CancelScope(deadline=3, shield=True) as scope:
            seen.append((scope.deadline, scope.shield, isinstance(scope, anyio.CancelScope)))
            await anyio.sleep_forever()
        seen.append(scope.cancelled_caught)
        try:
            with anyio.fail_after(2):
                await anyio.sleep(3)
        except TimeoutError:
            seen.append(host.loop.time())
        return seen

    assert run(main) == [(3, True, True), True, 5.0]


def test_the_task_of_a_run_needs_nobody_to_keep_it() -> None:
    host = Host()
    finished: list[str] = []
    waiters: list[weakref.ref[asyncio.Future[None]]] = []

    async def background() -> None:
        # Task and future keep each other, and nothing else keeps them.
        future = host.loop.create_future()
        waiters.append(weakref.ref(future))
        await future
        finished.append("background")

    async def main() -> None:
        asyncio.create_task(background())  # noqa: RUF006 - nobody keeps it: that is the point
        await asyncio.sleep(0)

    host.start(main())
    gc.collect()
    waiter = waiters[0]()
    assert waiter is not None
    host.do(lambda: waiter.set_result(None))
    assert finished == ["background"]


def test_finished_tasks_are_let_go() -> None:
    async def main(host: Host) -> int:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, WorkflowLoop)
        await asyncio.gather(*(asyncio.sleep(0) for _ in range(10)))
        return len(loop.tasks)

    assert run(main) == 1
