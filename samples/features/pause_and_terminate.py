"""Pause, resume, terminate, delete: what an operator does to an instance, without its code."""

from __future__ import annotations

import asyncio

import durable

beat: durable.Signal[int] = durable.Signal("beat", int)


@durable.workflow
async def count() -> None:
    """Counts what it hears, for ever."""
    total = 0
    async for number in beat:
        total += number
        durable.set_var("total", total)


async def total_of(instance: durable.Instance[None], expected: int) -> None:
    """Wait until it has counted so far."""
    async with asyncio.timeout(10):
        while (await instance.vars()).get("total") != expected:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def main() -> None:
    """While it is paused, signals wait."""
    async with durable.connect("memory://") as client, durable.Worker(client, [count]):
        instance = await client.create_instance(count, id="counter")
        await instance.signal(beat, 1)
        await total_of(instance, 1)
        await instance.pause("the auditors are here")
        await instance.signal(beat, 10)
        await asyncio.sleep(0.2)
        found = await instance.describe()
        print(found.state, found.reason, found.vars)
        assert (found.state, found.vars) == ("paused", {"total": 1})
        await instance.resume()
        await total_of(instance, 11)
        await instance.terminate("enough")
        try:
            await instance
        except durable.WorkflowTerminated as error:
            print(error)
        await instance.delete()
        try:
            await instance.describe()
            raise AssertionError("it was deleted")
        except durable.InstanceNotFound as error:
            print(error)


if __name__ == "__main__":
    asyncio.run(main())
