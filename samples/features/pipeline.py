"""A pipeline of plain asyncio: an async generator feeds a queue, workers take from it, each step an activity."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import durable


@durable.activity
async def page_of(number: int) -> list[str]:
    """A page of records; the fourth is empty."""
    return [f"{number}{letter}" for letter in "abc"] if number < 4 else []


@durable.activity
async def convert(record: str) -> str:
    """One record."""
    return record.upper()


async def records() -> AsyncIterator[str]:
    """All records, page by page."""
    number = 1
    while page := await page_of(number):
        for record in page:
            yield record
        number += 1


@durable.workflow
async def export() -> list[str]:
    """Reads ahead by two records at most, converts three at a time."""
    queue: asyncio.Queue[str | None] = asyncio.Queue(maxsize=2)
    done: list[str] = []

    async def convert_some() -> None:
        while (record := await queue.get()) is not None:
            done.append(await convert(record))
        await queue.put(None)  # for the next one

    async with asyncio.TaskGroup() as group:
        for _ in range(3):
            group.create_task(convert_some())
        async for record in records():
            await queue.put(record)
        await queue.put(None)
    return sorted(done)


async def main() -> None:
    """Nine records."""
    async with durable.connect("memory://") as client, durable.Worker(client, [export, page_of, convert]):
        done = await (await client.create_instance(export)).result(timeout=10)
    print(done)
    assert done == ["1A", "1B", "1C", "2A", "2B", "2C", "3A", "3B", "3C"]


if __name__ == "__main__":
    asyncio.run(main())
