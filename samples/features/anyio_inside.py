"""anyio in a workflow: task groups, cancel scopes and memory streams, as anywhere, and durable."""

from __future__ import annotations

import asyncio

import anyio
from anyio.streams.memory import MemoryObjectSendStream

import durable


@durable.activity
async def fetch(page: int) -> str:
    """Page 2 does not answer."""
    await asyncio.sleep(60 if page == 2 else 0.01)
    return f"page {page}"


async def read(page: int, found: MemoryObjectSendStream[str]) -> None:
    """An ordinary function: it need not know that it runs in a workflow."""
    async with found:
        with anyio.move_on_after(0.3) as scope:
            await found.send(await fetch(page))
        if scope.cancelled_caught:
            await found.send(f"page {page} is missing")


@durable.workflow
async def scrape(pages: int) -> list[str]:
    """Producers in a task group, one consumer."""
    send, receive = anyio.create_memory_object_stream[str](1)
    found = []
    async with anyio.create_task_group() as group, receive:
        async with send:
            for page in range(1, pages + 1):
                group.start_soon(read, page, send.clone())
        async for text in receive:
            found.append(text)
    with anyio.CancelScope(shield=True):
        await anyio.sleep(0.01)
    return found


async def main() -> None:
    """The slow page comes last, as missing."""
    async with durable.connect("memory://") as client, durable.Worker(client, [scrape, fetch]):
        found = await (await client.create_instance(scrape, 3)).result(timeout=10)
    print(found)
    assert sorted(found) == ["page 1", "page 2 is missing", "page 3"] and "missing" in found[-1]


if __name__ == "__main__":
    asyncio.run(main())
