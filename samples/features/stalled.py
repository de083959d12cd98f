"""Stalled: code that does not fit the history harms nothing. A report says what differs, and code that fits goes on."""

from __future__ import annotations

import asyncio
import logging

import durable

go: durable.Signal[None] = durable.Signal("go", None)


@durable.activity
async def pack() -> str:
    """Something to be seen in the history."""
    return "packed"


@durable.workflow(name="deliver")
async def deliver() -> str:
    """The right code."""
    done = await pack()
    await go.receive()
    return done


@durable.workflow(name="deliver")
async def deliver_changed() -> str:
    """Somebody changed it without `durable.patched`."""
    await asyncio.sleep(0.01)
    return "not packed"


async def main() -> None:
    """Deployed by mistake, and rolled back."""
    logging.getLogger("durable").setLevel(logging.CRITICAL)  # it warns of what we do on purpose
    async with durable.connect("memory://") as client:
        async with durable.Worker(client, [deliver, pack]):
            instance = await client.create_instance(deliver)
            while (await instance.describe()).history_length < 3:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        async with durable.Worker(client, [deliver_changed, pack]):
            await instance.signal(go, None)
            while (found := await instance.describe()).state != "stalled":  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            assert found.problem is not None
            print(f"expected {found.problem.expected}, but {found.problem.actual}: line {found.problem.line}")
        async with durable.Worker(client, [deliver, pack]):
            # Nothing to do: a worker with other code tries it by itself.
            assert await instance.result(timeout=10) == "packed"


if __name__ == "__main__":
    asyncio.run(main())
