"""Tags, the business status, and lists: filters, and pages that stay stable while instances come and go."""

from __future__ import annotations

import asyncio
from enum import Enum

import durable

paid: durable.Signal[None] = durable.Signal("paid", None)


class Step(Enum):
    """The status, for people."""

    WAITING = "waiting for payment"
    PAID = "paid"


@durable.workflow
async def invoice(cents: int) -> None:
    """Shows what it is about while it waits."""
    durable.set_status(Step.WAITING)
    durable.set_var("cents", cents)
    await paid.receive()
    durable.set_status(Step.PAID)


async def main() -> None:
    """Seven invoices in two countries; three are paid."""
    async with durable.connect("memory://") as client, durable.Worker(client, [invoice]):
        for number in range(7):
            tags = {"country": "fr" if number % 2 else "de", "batch": "may"}
            await client.create_instance(invoice, number * 100, id=f"i-{number}", tags=tags)
        for number in range(3):
            await client.get_instance(f"i-{number}").signal(paid, None)
            await client.get_instance(f"i-{number}")
        french = await client.list_instances(workflow=invoice, tags={"country": "fr"}, order="oldest")
        assert [found.id for found in french.items] == ["i-1", "i-3", "i-5"]
        done = await client.list_instances(status=Step.PAID.value, state="completed")
        assert {found.id for found in done.items} == {"i-0", "i-1", "i-2"}
        pages, cursor = [], None
        while True:
            page = await client.list_instances(limit=3, cursor=cursor)
            pages.append([f"{found.id} {found.state}" for found in page.items])
            if (cursor := page.cursor) is None:
                break
    print(*pages, sep="\n")
    assert [len(page) for page in pages] == [3, 3, 1]


if __name__ == "__main__":
    asyncio.run(main())
