"""A process of its own for what needs the processor to itself: the worker's loop, and other activities, go on."""

from __future__ import annotations

import asyncio
import os
import threading

import durable


@durable.activity(executor="process", timeout=30)
def primes_below(limit: int) -> tuple[int, int]:
    """How many; and the id of the process. A plain function at the top of a module."""
    found = 0
    for number in range(2, limit):
        found += all(number % divisor for divisor in range(2, int(number**0.5) + 1))
        if number % 1000 == 0:
            durable.heartbeat(number)
    return found, os.getpid()


@durable.activity
def in_a_thread() -> tuple[str, int]:
    """A plain function without an executor runs in a thread of the worker."""
    return threading.current_thread().name, os.getpid()


@durable.workflow
async def count(limit: int) -> list[int | str]:
    """Both."""
    (found, process), (_, worker) = await asyncio.gather(primes_below(limit), in_a_thread())
    return [found, "in a process of its own" if process != worker else "in the worker"]


async def main() -> None:
    """Counts primes."""
    async with (
        durable.connect("memory://") as client,
        durable.Worker(client, [count, primes_below, in_a_thread]),
    ):
        found = await (await client.create_instance(count, 20_000)).result(timeout=30)
    print(found)
    assert found == [2262, "in a process of its own"]


if __name__ == "__main__":
    asyncio.run(main())
