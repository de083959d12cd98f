"""Cancellation: asyncio's own. `finally` runs and may await activities, also on another worker than it began on."""

from __future__ import annotations

import asyncio

import durable

rooms: set[str] = set()


@durable.activity
async def reserve(room: str) -> None:
    """Takes the room."""
    rooms.add(room)


@durable.activity
async def release(room: str) -> None:
    """Gives it back."""
    rooms.discard(room)


@durable.workflow
async def stay(room: str) -> str:
    """Holds the room until the guest leaves, or somebody cancels."""
    await reserve(room)
    durable.set_status("staying")
    try:
        await asyncio.sleep(7 * 24 * 3600)
        return "a week later"
    finally:
        await release(room)


async def main() -> None:
    """Cancels a stay, with a reason."""
    async with durable.connect("memory://") as client, durable.Worker(client, [stay, reserve, release]):
        instance = await client.create_instance(stay, "21", id="stay-21")
        while (await instance.describe()).status != "staying":  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        assert rooms == {"21"}
        await instance.cancel("the guest is ill")
        try:
            await instance
        except durable.WorkflowCancelled as error:
            print(error)
            assert "the guest is ill" in str(error)
        assert (await instance.describe()).state == "cancelled"
    assert rooms == set(), "the room was given back"


if __name__ == "__main__":
    asyncio.run(main())
