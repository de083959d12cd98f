"""Several things at once: `gather` for results in order, `TaskGroup` to stop the others when one fails."""

from __future__ import annotations

import asyncio

import durable


@durable.activity
async def price(item: str) -> int:
    """What it costs; there are no unicorns."""
    if item == "unicorn":
        raise LookupError("there is no unicorn")
    await asyncio.sleep(0.05)
    return len(item) * 100


ask = price.options(retry=durable.Retry(max_attempts=1))


@durable.workflow
async def total(items: list[str]) -> int:
    """All prices at once: this takes as long as the slowest."""
    return sum(await asyncio.gather(*(ask(item) for item in items)))


@durable.workflow
async def offer(items: list[str]) -> str:
    """The same, but the first failure cancels what is still under way."""
    tasks: list[asyncio.Task[int]] = []
    failures: list[str] = []
    try:
        async with asyncio.TaskGroup() as group:
            tasks += [group.create_task(ask(item)) for item in items]
    except* LookupError as several:
        failures += [str(error) for error in several.exceptions]
    return f"no offer: {failures[0]}" if failures else f"{sum(task.result() for task in tasks)} cents"


async def main() -> None:
    """Two offers and a total."""
    async with durable.connect("memory://") as client, durable.Worker(client, [total, offer, price]):
        assert await (await client.create_instance(total, ["book", "lamp"])) == 800
        assert await (await client.create_instance(offer, ["book", "lamp"])) == "800 cents"
        refused = await (await client.create_instance(offer, ["book", "unicorn"]))
    print(refused)
    assert refused == "no offer: there is no unicorn"


if __name__ == "__main__":
    asyncio.run(main())
