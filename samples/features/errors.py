"""Errors: exceptions cross activities, children and clients as themselves; a class unknown here as `RemoteError`."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import durable


@dataclass
class OutOfStock(Exception):
    """With fields of its own."""

    item: str
    left: int


@durable.activity(retry=durable.Retry(max_attempts=1))
async def take(item: str) -> None:
    """Fails in one of two ways."""
    if item == "lamp":
        raise OutOfStock(item, 0)

    class Unforeseen(ValueError):  # a class that nobody else can know
        pass

    raise Unforeseen(f"what is a {item}?")


@durable.workflow
async def fulfil(item: str) -> str:
    """Catches what it knows how to handle."""
    try:
        await take(item)
    except ValueError as error:  # the nearest built-in base
        assert isinstance(error, durable.RemoteError)
        return f"{error.type}: {error.message}"
    return "taken"


@durable.workflow
async def order(item: str) -> str:
    """Does not catch; it fails with what the child failed with."""
    return await fulfil(item)


async def main() -> None:
    """One is handled, one goes through to the client."""
    async with durable.connect("memory://") as client, durable.Worker(client, [order, fulfil, take]):
        handled = await (await client.create_instance(order, "gnu"))
        print(handled)
        assert "Unforeseen: what is a gnu?" in handled
        try:
            await (await client.create_instance(order, "lamp"))
            raise AssertionError("it was to fail")
        except durable.WorkflowFailed as error:
            print(repr(error.__cause__))
            assert error.__cause__ == OutOfStock("lamp", 0)


if __name__ == "__main__":
    asyncio.run(main())
