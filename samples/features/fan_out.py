"""A large fan-out: hundreds of activities, never more than some at a time. `Semaphore` is all it takes."""

from __future__ import annotations

import asyncio

import durable

at_once: list[int] = [0, 0]  # now, and at most


@durable.activity
async def resize(number: int) -> int:
    """Counts how many run at once."""
    at_once[0] += 1
    at_once[1] = max(at_once)
    await asyncio.sleep(0.001)
    at_once[0] -= 1
    return number * number


@durable.workflow
async def album(pictures: int, width: int) -> int:
    """Starts the next one when one is done."""
    free = asyncio.Semaphore(width)

    async def one(number: int) -> int:
        async with free:
            return await resize(number)

    return sum(await asyncio.gather(*(one(number) for number in range(pictures))))


async def main() -> None:
    """Three hundred, twenty at a time."""
    async with durable.connect("memory://") as client, durable.Worker(client, [album, resize]):
        instance = await client.create_instance(album, 300, 20)
        found = await instance.result(timeout=30)
        events = (await instance.describe()).history_length
    print(f"{found}, at most {at_once[1]} at once, {events} events")
    assert found == sum(number * number for number in range(300))
    assert at_once[1] <= 20 and events == 602


if __name__ == "__main__":
    asyncio.run(main())
