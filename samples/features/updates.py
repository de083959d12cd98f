"""Updates: functions nested in the workflow that change it and answer. A validator refuses before anything happens."""

from __future__ import annotations

import asyncio

import durable


class SoldOut(Exception):
    """Raised by the update, and by the caller's await."""


@durable.activity
async def reserve(item: str) -> str:
    """Asks the warehouse."""
    return f"reserved {item}"


@durable.workflow
async def basket(limit: int) -> list[str]:
    """Open until somebody checks out."""
    items: list[str] = []
    closed = False

    @durable.update
    async def add(item: str) -> str:
        if item == "unicorn":
            raise SoldOut(item)
        receipt = await reserve(item)
        items.append(item)
        return receipt

    @add.validator
    def check(item: str) -> None:
        if len(items) >= limit:
            raise ValueError("the basket is full")

    @durable.update
    def check_out() -> int:
        nonlocal closed
        closed = True
        return len(items)

    await durable.wait_condition(lambda: closed)
    return items


async def main() -> None:
    """Adds (twice with one key: once), is refused, fails, checks out."""
    async with durable.connect("memory://") as client, durable.Worker(client, [basket, reserve]):
        instance = await client.create_instance(basket, 1)
        try:
            await instance.update("add", "unicorn")
        except SoldOut as error:
            print("sold out:", error)
        assert await instance.update("add", "book", key="click-1") == "reserved book"
        assert await instance.update("add", "book", key="click-1") == "reserved book", (
            "the first answer again"
        )
        try:
            await instance.update("add", "lamp")
        except durable.UpdateRejected as error:
            print(error)
        assert await instance.update("check_out") == 1
        assert await instance == ["book"]


if __name__ == "__main__":
    asyncio.run(main())
