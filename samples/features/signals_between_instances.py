"""Signals between instances: the outcome is on the sender's `await`."""

from __future__ import annotations

import asyncio

import durable

ball: durable.Signal[int] = durable.Signal("ball", int)


@durable.workflow
async def player(opponent: str, serves: bool) -> int:
    """Hits back until ten; gives the number of the last ball that it got."""
    other = durable.get_instance(opponent)
    if serves:
        await other.signal(ball, 1)
    seen = 0
    async for seen in ball:
        if seen >= 9:
            break
        await other.signal(ball, seen + 1)
    if seen == 9:
        await other.signal(ball, 10)  # so that the other one stops, too
    return seen


@durable.workflow
async def calls_nobody() -> str:
    """What is not there cannot be signalled."""
    try:
        await durable.get_instance("nobody").signal(ball, 1)
    except durable.InstanceNotFound as error:
        return type(error).__name__
    return "delivered"


async def main() -> None:
    """A rally."""
    async with durable.connect("memory://") as client, durable.Worker(client, [player, calls_nobody]):
        bob = await client.create_instance(player, "ann", False, id="bob")
        ann = await client.create_instance(player, "bob", True, id="ann")
        last = list(await asyncio.gather(ann.result(timeout=10), bob.result(timeout=10)))
        print("last balls:", last)
        assert last == [10, 9]
        assert await (await client.create_instance(calls_nobody)) == "InstanceNotFound"


if __name__ == "__main__":
    asyncio.run(main())
