"""Time-outs of activities, and heartbeats: what a long activity has done is known to its next attempt."""

from __future__ import annotations

import asyncio

import durable

again = durable.Retry(max_attempts=2, initial=0.02)


@durable.activity(timeout=0.1, retry=durable.Retry(max_attempts=1))
async def too_slow() -> None:
    """One attempt may take a tenth of a second."""
    await asyncio.sleep(60)


@durable.activity(queue_timeout=0.1, queue="nobody-serves-this")
async def never_taken() -> None:
    """Waits for a worker, for a tenth of a second."""


@durable.activity(heartbeat_timeout=0.3, retry=again)
async def copy(files: int) -> list[int]:
    """Hangs in its first attempt; the second one goes on where the first was seen last."""
    first = durable.activity_info().last_heartbeat or 0
    for number in range(first, files):
        durable.heartbeat(number)
        if first == 0 and number == 3:
            await asyncio.sleep(60)
    return list(range(first, files))


@durable.workflow
async def back_up() -> list[object]:
    """Collects what became of the three."""
    seen: list[object] = []
    for activity in (too_slow, never_taken):
        try:
            await activity()
        except durable.ActivityTimeout as error:
            seen.append(error.kind)
    return [*seen, *await copy(6)]


async def main() -> None:
    """Takes half a second."""
    async with (
        durable.connect("memory://") as client,
        durable.Worker(client, [back_up, too_slow, never_taken, copy]),
    ):
        seen = await (await client.create_instance(back_up)).result(timeout=10)
    print(seen)
    assert seen == ["timeout", "queue", 3, 4, 5]


if __name__ == "__main__":
    asyncio.run(main())
