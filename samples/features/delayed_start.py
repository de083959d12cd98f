"""Later: `start_at`. And how long at most: `timeout` covers the instance with all its runs, without its code."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import durable


@durable.workflow
async def wake_up(name: str) -> str:
    """Runs at its time."""
    return f"{name}, it is time"


@durable.workflow
async def sleep_in() -> None:
    """Does not end by itself."""
    await asyncio.sleep(3600)


async def main() -> None:
    """One is called back before its time, one starts in time, one takes too long."""
    async with durable.connect("memory://") as client, durable.Worker(client, [wake_up, sleep_in]):
        soon, late = (datetime.now(UTC) + timedelta(seconds=seconds) for seconds in (0.3, 3600))
        instance = await client.create_instance(wake_up, "ann", start_at=soon)
        other = await client.create_instance(wake_up, "bob", start_at=late)
        found = await other.describe()
        assert (found.state, found.start_at) == ("running", late), "running, also before its start"
        await other.cancel("he is up already")
        try:
            await other.result(timeout=10)
        except durable.WorkflowCancelled as error:
            print(error)
        assert await instance.result(timeout=10) == "ann, it is time"
        assert datetime.now(UTC) >= soon
        try:
            await (await client.create_instance(sleep_in, timeout=0.2))
        except durable.WorkflowFailed as error:
            print(error)
            assert isinstance(error.__cause__, TimeoutError)


if __name__ == "__main__":
    asyncio.run(main())
