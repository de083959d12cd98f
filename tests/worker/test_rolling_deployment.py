"""Two versions of code on one store, worker by worker: nothing is lost, nothing is done twice, no run mixes the two."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

import durable
from durable.client import Client
from tests.worker.stores import until

go: durable.Signal[None] = durable.Signal("go", None)
done: Counter[tuple[str, str]] = Counter()

OLD_WAY = ["pack", "send"]
NEW_WAY = ["weigh", "pack", "insure", "send"]


@durable.activity
async def step(order: str, name: str) -> str:
    done[order, name] += 1
    return name


@durable.workflow(name="deliver")
async def deliver_before(order: str) -> list[str]:
    steps = [await step(order, "pack")]
    durable.set_status("packed")
    await go.receive()
    return [*steps, await step(order, "send")]


@durable.workflow(name="deliver")
async def deliver_after(order: str) -> list[str]:
    steps = [await step(order, "weigh")] if durable.patched("weigh") else []
    steps.append(await step(order, "pack"))
    durable.set_status("packed")
    await go.receive()
    if durable.patched("insure"):
        steps.append(await step(order, "insure"))
    return [*steps, await step(order, "send")]


@durable.workflow(name="greet", version="1")
async def greet_before(name: str) -> str:
    await go.receive()
    return f"Dear {name}"


@durable.workflow(name="greet", version="2")
async def greet_after(name: str) -> str:
    return f"Hi {name}"


BEFORE = [deliver_before, greet_before, step]
AFTER = [deliver_after, greet_before, greet_after, step]


@pytest.fixture(params=["memory", "sqlite", "postgres", "mysql"])
async def url(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[str]:
    if request.param in ("postgres", "mysql"):
        async with request.getfixturevalue(f"{request.param}_server").database() as url:
            yield url
        return
    yield "memory://rolling" if request.param == "memory" else f"sqlite:///{tmp_path}/rolling.db"


@pytest.fixture
async def client(url: str) -> AsyncIterator[Client]:
    done.clear()
    async with durable.connect(url) as client:
        yield client


async def deploy(url: str, definitions: list[object]) -> AsyncExitStack:
    """A worker with a connection of its own, as a process has; closing it is how it is taken away."""
    stack = AsyncExitStack()
    client = await stack.enter_async_context(durable.connect(url))
    await stack.enter_async_context(durable.Worker(client, definitions))  # type: ignore[arg-type]
    return stack


async def begin(client: Client, phase: str, count: int) -> list[durable.Instance[list[str]]]:
    return [
        await client.create_instance(deliver_before, f"{phase}-{n}", id=f"{phase}-{n}") for n in range(count)
    ]


async def all_packed(instances: list[durable.Instance[list[str]]]) -> None:
    async def packed() -> bool:
        found = [await one.describe() for one in instances]
        return all(one.status == "packed" or one.state != "running" for one in found)

    await until(packed, "packing")


async def test_a_rolling_deployment_loses_nothing(
    client: Client, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = await deploy(url, BEFORE), await deploy(url, BEFORE)
    early = await begin(client, "early", 8)
    await all_packed(early)
    for one in early[:3]:
        await one.signal(go, None)
    await first.aclose()

    third = await deploy(url, AFTER)  # both are at work now
    middle = await begin(client, "middle", 8)
    await all_packed(middle)
    for one in [*early[3:6], *middle[:4]]:
        await one.signal(go, None)
    await second.aclose()

    fourth = await deploy(url, AFTER)  # tries what stalled under the code of the second
    late = await begin(client, "late", 8)
    for one in [*early[6:], *middle[4:], *late]:
        await one.signal(go, None)
    results = [await one.result(timeout=20) for one in [*early, *middle, *late]]

    assert results[:8] == [OLD_WAY] * 8
    assert all(way in (OLD_WAY, NEW_WAY) for way in results[8:16])
    assert results[16:] == [NEW_WAY] * 8
    assert set(done.values()) == {1}
    assert sum(done.values()) == sum(map(len, results))
    await third.aclose()
    await fourth.aclose()
    assert await client.audit() == []


async def test_a_run_of_the_new_code_that_old_code_took_stalls_and_heals(
    client: Client, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    new = await deploy(url, AFTER)
    instance = (await begin(client, "new", 1))[0]
    await all_packed([instance])
    await new.aclose()
    old = await deploy(url, BEFORE)  # somebody rolled back
    await instance.signal(go, None)

    async def stalled() -> bool:
        return (await instance.describe()).state == "stalled"

    await until(stalled, "stalling")
    await old.aclose()
    new = await deploy(url, AFTER)
    assert await instance.result(timeout=20) == NEW_WAY
    assert set(done.values()) == {1}
    await new.aclose()


async def test_versions_side_by_side_stay_with_the_workers_that_have_them(client: Client, url: str) -> None:
    old = await deploy(url, BEFORE)
    first = await client.create_instance(greet_before, "Ann")
    second = await client.create_instance(greet_after, "Bob")
    await first.signal(go, None)
    assert await first.result(timeout=20) == "Dear Ann"
    assert (await second.describe()).history_length == 1  # nobody has touched it
    third = await client.create_instance(greet_before, "Cy")
    new = await deploy(url, AFTER)
    assert await second.result(timeout=20) == "Hi Bob"
    await old.aclose()
    await third.signal(go, None)
    assert await third.result(timeout=20) == "Dear Cy"
    await new.aclose()
