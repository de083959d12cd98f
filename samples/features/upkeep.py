"""Upkeep: counts, a look for what is broken, and forgetting what is old."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import durable


@durable.workflow
async def job(number: int) -> int:
    """Odd ones fail."""
    if number % 2:
        raise ValueError(f"{number} is odd")
    return number


@durable.workflow
async def service() -> None:
    """Does not end."""
    await asyncio.sleep(3600)


async def main() -> None:
    """Ten jobs and a service."""
    async with durable.connect("memory://") as client, durable.Worker(client, [job, service]):
        await client.create_instance(service, id="service")
        jobs = [await client.create_instance(job, number) for number in range(10)]
        await asyncio.gather(*jobs, return_exceptions=True)
        stats = await client.stats()
        print(stats)
        assert stats.instances == {"running": 1, "completed": 5, "failed": 5}

        assert list(await client.audit()) == [], "nothing waits on nothing"

        assert await client.purge(timedelta(days=30)) == 0, "all of them are of today"
        assert await client.purge(0.0, state="completed", batch=2) == 5
        assert await client.purge(0.0) == 5
        assert (await client.stats()).instances == {"running": 1}, "what is unfinished is never purged"


if __name__ == "__main__":
    asyncio.run(main())
