"""Chosen context variables travel: from the client to the workflow, its activities and its children."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar

import durable

user: ContextVar[str] = ContextVar("user", default="nobody")


@durable.activity
async def who() -> str:
    """Whoever asked, as the activity sees it."""
    return user.get()


@durable.workflow
async def child() -> str:
    """The same in a child."""
    return f"child {user.get()}, its activity {await who()}"


@durable.workflow
async def parent() -> list[str]:
    """It may change the value for what comes below it."""
    seen = [f"parent {user.get()}", await who()]
    user.set("somebody else")
    return [*seen, await child()]


async def main() -> None:
    """The variables are named once, where the client is made."""
    async with (
        durable.connect("memory://", context=[user]) as client,
        durable.Worker(client, [parent, child, who]),
    ):
        user.set("ann")
        seen = await (await client.create_instance(parent))
    print(seen)
    assert seen == ["parent ann", "ann", "child somebody else, its activity somebody else"]


if __name__ == "__main__":
    asyncio.run(main())
