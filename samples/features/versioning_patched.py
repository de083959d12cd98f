"""Versioning by `patched`: new code goes the old way in runs that began with the old code, the new way in others."""

from __future__ import annotations

import asyncio

import durable

go: durable.Signal[None] = durable.Signal("go", None)


@durable.activity
async def step(name: str) -> str:
    """Something to be seen in the history."""
    return name


@durable.workflow(name="deliver")
async def deliver_of_last_year() -> list[str]:
    """The code that was deployed when the first instance began."""
    steps = [await step("pack")]
    await go.receive()
    return [*steps, await step("send")]


@durable.workflow(name="deliver")
async def deliver() -> list[str]:
    """The code of today. When no old run is left, the branch and the call go."""
    steps = []
    if durable.patched("weigh-first"):
        steps.append(await step("weigh"))
    steps.append(await step("pack"))
    await go.receive()
    return [*steps, await step("send")]


async def main() -> None:
    """An old run and a new one, side by side on new code."""
    async with durable.connect("memory://") as client:
        async with durable.Worker(client, [deliver_of_last_year, step]):
            old = await client.create_instance(deliver_of_last_year, id="old")
            while (await old.describe()).history_length < 3:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        async with durable.Worker(client, [deliver, step]):
            new = await client.create_instance(deliver, id="new")
            for instance in (old, new):
                await instance.signal(go, None)
            found = list(await asyncio.gather(old.result(timeout=10), new.result(timeout=10)))
    print(found)
    assert found == [["pack", "send"], ["weigh", "pack", "send"]]


if __name__ == "__main__":
    asyncio.run(main())
