"""Signals: typed, buffered messages into a running instance. A key makes it harmless to send one again."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import durable


@dataclass(frozen=True)
class Vote:
    """What is sent."""

    by: str
    yes: bool


vote: durable.Signal[Vote] = durable.Signal("vote", Vote)


@durable.workflow
async def election(voters: int) -> str:
    """Counts until all have voted, or time is up."""
    seen: list[Vote] = []
    try:
        async with asyncio.timeout(3600):
            while len(seen) < voters:
                seen.append(await vote.receive())
    except TimeoutError:
        return "too few came"
    return f"{sum(each.yes for each in seen)} of {len(seen)} said yes, {vote.pending} came too late"


async def main() -> None:
    """Four votes of three people: ann's line was bad, so she sent hers twice, with the same key."""
    async with durable.connect("memory://") as client:
        instance = await client.create_instance(election, 3)  # no worker yet: signals wait in the store
        for by, yes in (("ann", True), ("ann", True), ("bob", False), ("cat", True)):
            await instance.signal(vote, Vote(by=by, yes=yes), key=by)
        async with durable.Worker(client, [election]):
            outcome = await instance.result(timeout=10)
        try:
            await instance.signal("vote", {"by": "dan", "yes": True})  # by name, as plain JSON
        except durable.InstanceFinished as error:
            print(error)
    print(outcome)
    assert outcome == "2 of 3 said yes, 0 came too late"


if __name__ == "__main__":
    asyncio.run(main())
