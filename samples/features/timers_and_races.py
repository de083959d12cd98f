"""Timers and races: `sleep`, `timeout`, and `wait(FIRST_COMPLETED)` on durable timers, which survive restarts."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import durable

answer: durable.Signal[str] = durable.Signal("answer", str)


@durable.workflow
async def remind(patience: float) -> str:
    """An answer races with a timer; who loses is cancelled."""
    asked = asyncio.create_task(answer.receive())
    timer = asyncio.create_task(durable.sleep(patience, name="patience"))
    done, waiting = await asyncio.wait([asked, timer], return_when=asyncio.FIRST_COMPLETED)
    for task in waiting:
        task.cancel()
    return asked.result() if asked in done else "reminded"


@durable.workflow
async def deadline() -> list[str]:
    """Time-outs as in asyncio, and the workflow's own clock."""
    began = durable.now()
    seen = []
    try:
        async with asyncio.timeout(0.05):
            await asyncio.sleep(3600)
    except TimeoutError:
        seen.append("timed out")
    await durable.sleep(timedelta(milliseconds=10))
    await durable.sleep_until(began + timedelta(milliseconds=100))
    seen.append("on time" if durable.now() - began >= timedelta(milliseconds=100) else "early")
    return seen


async def main() -> None:
    """One answers, one does not."""
    async with durable.connect("memory://") as client, durable.Worker(client, [remind, deadline]):
        quick = await client.create_instance(remind, 3600.0)
        slow = await client.create_instance(remind, 0.1)
        await quick.signal(answer, "yes")
        seen = list(await asyncio.gather(quick.result(timeout=10), slow.result(timeout=10)))
        print(seen, [event.kind for event in await quick.history()])
        assert seen == ["yes", "reminded"]
        assert await (await client.create_instance(deadline)) == ["timed out", "on time"]


if __name__ == "__main__":
    asyncio.run(main())
