"""Versioning by `version=`: several versions of one workflow in one worker; each run stays with its own."""

from __future__ import annotations

import asyncio

import durable

go: durable.Signal[None] = durable.Signal("go", None)


@durable.workflow(name="greet", version="1")
async def greet_1(name: str) -> str:
    """Kept until no run of version 1 is left."""
    await go.receive()
    return f"Dear {name}"


@durable.workflow(name="greet", version="2")
async def greet_2(name: str) -> str:
    """What new instances get."""
    await go.receive()
    return f"Hi {name}"


async def main() -> None:
    """A worker that knows version 1 only leaves version 2 alone; nothing is failed."""
    async with durable.connect("memory://") as client:
        old = await client.create_instance(greet_1, "Ann")
        new = await client.create_instance(greet_2, "Bob")
        by_name = await client.create_instance("greet", "Cat", version="2")
        for instance in (old, new, by_name):
            await instance.signal(go, None)
        async with durable.Worker(client, [greet_1]):
            assert await old.result(timeout=10) == "Dear Ann"
            assert (await new.describe()).state == "running", "it waits untouched"
        async with durable.Worker(client, [greet_1, greet_2]):
            found = list(await asyncio.gather(new.result(timeout=10), by_name.result(timeout=10)))
    print(found)
    assert found == ["Hi Bob", "Hi Cat"]


if __name__ == "__main__":
    asyncio.run(main())
