"""Signal with start: the first message starts the instance, the next ones find it. Nobody need know which it is."""

from __future__ import annotations

import asyncio

import durable

item: durable.Signal[str] = durable.Signal("item", str)


@durable.workflow
async def cart(customer: str) -> str:
    """Collects what comes, until nothing has come for a while."""
    items: list[str] = []
    while True:
        try:
            async with asyncio.timeout(0.3):
                items.append(await item.receive())
        except TimeoutError:
            return f"{customer} left {', '.join(sorted(items))}"


async def main() -> None:
    """Three clicks at once, one of them twice."""
    async with durable.connect("memory://") as client, durable.Worker(client, [cart]):
        clicks = [("book", "k1"), ("lamp", "k2"), ("chair", "k3"), ("lamp", "k2")]
        instances = await asyncio.gather(
            *(
                client.signal_with_start(cart, "ann", id="cart-ann", signal=item, value=name, key=key)
                for name, key in clicks
            )
        )
        assert len({instance.run_id for instance in instances}) == 1
        left = await instances[0]
    print(left)
    assert left == "ann left book, chair, lamp"


if __name__ == "__main__":
    asyncio.run(main())
