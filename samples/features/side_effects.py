"""Side effects: a look outside that is recorded once. And what needs none: time, chance and ids are the run's own."""

from __future__ import annotations

import asyncio
import os
import random
import uuid

import durable

looks: list[str] = []


def region() -> str:
    """Quick, and cannot fail; for all else there are activities."""
    looks.append("looked")
    return os.environ.get("REGION", "nowhere")


@durable.workflow
async def raffle(names: list[str]) -> list[str]:
    """Replayed for each task (the worker keeps nothing in memory), and the same each time."""
    where = durable.side_effect(region)
    winner = durable.random().choice(names)
    ticket = str(durable.uuid4())
    plain = f"{random.random()} {uuid.uuid4()}"  # durable: ok - they are the run's own in here
    for _ in range(3):
        await asyncio.sleep(0.01)
    return [where, winner, ticket, plain]


async def main() -> None:
    """A worker with `cache_size=0` replays the history in every task."""
    async with durable.connect("memory://") as client, durable.Worker(client, [raffle], cache_size=0):
        instance = await client.create_instance(raffle, ["ann", "bob", "cat"])
        where, winner, ticket, _ = await instance
        print(f"{winner} wins in {where}, ticket {ticket}")
    assert looks == ["looked"], "once, although the function ran four times"


if __name__ == "__main__":
    asyncio.run(main())
