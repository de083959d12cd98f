"""Events for others: `publish` writes into the outbox, in one transaction with the step. Nothing delivers them yet."""

from __future__ import annotations

import asyncio
from decimal import Decimal

import durable


@durable.activity
async def charge(amount: Decimal) -> str:
    """Something that has to come first."""
    return f"receipt for {amount}"


@durable.workflow
async def order(id: str, amount: Decimal) -> str:
    """The event is written if and only if the step that published it is, and once, however often that is replayed."""
    receipt = await charge(amount)
    durable.publish("orders", {"id": id, "event": "paid"}, key=id, headers={"type": "order.paid"})
    return receipt


async def main() -> None:
    """The backlog is in the counts."""
    async with durable.connect("memory://") as client, durable.Worker(client, [order, charge], cache_size=0):
        await (await client.create_instance(order, "o-1", Decimal("12.50")))
        stats = await client.stats()
    print(stats)
    assert stats.outbox == 1


if __name__ == "__main__":
    asyncio.run(main())
