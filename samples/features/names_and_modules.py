"""Names: a definition is known by its name. A worker can be given a module, and finds what is defined there."""

from __future__ import annotations

import asyncio
import sys

import durable


@durable.activity(name="billing.total")
async def total(cents: list[int]) -> int:
    """Its name is stored, not its place: the function may move."""
    return sum(cents)


@durable.workflow(name="billing.bill")
async def bill(cents: list[int]) -> int:
    """Known as `billing.bill`."""
    return await total(cents)


@durable.workflow(name="billing.bill")
async def impostor(cents: list[int]) -> int:
    """Another definition under the same name."""
    return 0


async def main() -> None:
    """By module, by name, and a name that is taken."""
    here = sys.modules[__name__]
    async with durable.connect("memory://") as client:
        try:
            durable.Worker(client, [here])
            raise AssertionError("two definitions have the same name")
        except ValueError as error:
            print(error)
        async with durable.Worker(client, [bill, total]):
            instance = await client.create_instance("billing.bill", [1, 2, 3])
            assert await instance == 6
            kinds = [event.fields.get("name") for event in await instance.history()]
    assert kinds[1] == "billing.total"
    assert await total([1, 2]) == 3, "outside of a workflow it is the plain function"


if __name__ == "__main__":
    asyncio.run(main())
