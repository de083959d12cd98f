"""A saga: what was done is undone in reverse when a later step fails. `AsyncExitStack` is all it takes."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import durable

bookings: list[str] = []


class NoRoom(Exception):
    """The hotel's answer."""


@durable.activity(retry=durable.Retry(non_retryable=(NoRoom,)))
async def book(what: str) -> None:
    """Books; the hotel in Atlantis is always full."""
    if what == "hotel in Atlantis":
        raise NoRoom(what)
    bookings.append(f"+ {what}")


@durable.activity(retry=durable.Retry(max_attempts=None))
async def cancel_booking(what: str) -> None:
    """Tried until it works: we said that we would not come."""
    bookings.append(f"- {what}")


@durable.workflow
async def travel(town: str) -> str:
    """All or nothing, whether a step fails or somebody cancels."""
    async with AsyncExitStack() as undo:
        for what in (f"flight to {town}", f"car in {town}", f"hotel in {town}"):
            undo.push_async_callback(
                cancel_booking, what
            )  # before: a booking may be made and its answer lost
            await book(what)
        undo.pop_all()
    return f"have fun in {town}"


async def main() -> None:
    """One journey takes place."""
    async with durable.connect("memory://") as client, durable.Worker(client, [travel, book, cancel_booking]):
        assert await (await client.create_instance(travel, "Rome")) == "have fun in Rome"
        bookings.clear()
        try:
            await (await client.create_instance(travel, "Atlantis"))
        except durable.WorkflowFailed as error:
            assert isinstance(error.__cause__, NoRoom)
    print(*bookings, sep="\n")
    assert bookings == [
        "+ flight to Atlantis",
        "+ car in Atlantis",
        "- hotel in Atlantis",
        "- car in Atlantis",
        "- flight to Atlantis",
    ]


if __name__ == "__main__":
    asyncio.run(main())
