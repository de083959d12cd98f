"""A split worker: one process starts instances and waits, another one works. They share nothing but the store."""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from pathlib import Path

import durable

ROOT = Path(__file__).resolve().parent.parent.parent


@durable.activity
async def square(number: int) -> list[int]:
    """The square, and the id of the process that computed it."""
    return [number * number, os.getpid()]


@durable.workflow
async def squares(numbers: list[int]) -> list[list[int]]:
    """All of them at once."""
    return await asyncio.gather(*(square(number) for number in numbers))


async def work(url: str) -> None:
    """The worker's process: until SIGTERM."""
    async with durable.connect(url) as client:
        await durable.Worker(client, [squares, square]).run()


async def main() -> None:
    """The client's process; it needs no worker, and only the name of the workflow."""
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{folder}/split.db?poll=0.1"
        async with durable.connect(url) as client:
            instance = await client.create_instance("squares", [3, 4])  # nobody is there to work yet
            command = [sys.executable, "-m", "samples.features.split_worker", url]
            worker = await asyncio.create_subprocess_exec(*command, cwd=ROOT)
            try:
                found = await instance.result(timeout=30)
            finally:
                worker.terminate()  # SIGTERM: it drains, and ends
            ended = await worker.wait()
    print(f"this is {os.getpid()}:", found)
    assert found == [[9, worker.pid], [16, worker.pid]]
    assert ended == 0


if __name__ == "__main__":
    asyncio.run(work(sys.argv[1]) if len(sys.argv) > 1 else main())
