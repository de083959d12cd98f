"""Queues: who does what. Activities and workflows may name a queue, and a worker serves the queues that it names."""

from __future__ import annotations

import asyncio

import durable


@durable.activity
async def where() -> str:
    """The queue that this attempt came from."""
    return durable.activity_info().queue


@durable.activity(queue="gpu")
async def render() -> str:
    """Only for workers with a graphics card."""
    return durable.activity_info().queue


@durable.workflow
async def film() -> list[str]:
    """An activity without a queue of its own gets the caller's."""
    return [await where(), await render(), await where.options(queue="eu")()]


async def main() -> None:
    """Three workers; and a fourth queue that nobody serves."""
    async with (
        durable.connect("memory://") as client,
        durable.Worker(client, [film, where], queues=["films"]),
        durable.Worker(client, [render], queues=["gpu"]),
        durable.Worker(client, [where], queues=["eu", "us"]),
    ):
        found = await (await client.create_instance(film, queue="films")).result(timeout=10)
        waits = await client.create_instance(film, queue="moon")
        stats = await client.stats()
        await waits.terminate("nobody is on the moon")
    print(found, stats)
    assert found == ["films", "gpu", "eu"]
    assert stats.workflow_tasks == {"moon": 1}


if __name__ == "__main__":
    asyncio.run(main())
