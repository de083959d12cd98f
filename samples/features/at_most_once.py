"""At most once: an activity that is rather not done than done twice. A worker that dies leaves it to the workflow."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import tempfile
from pathlib import Path

import durable

ROOT = Path(__file__).resolve().parent.parent.parent


@durable.activity(at_most_once=True, retry=durable.Retry(max_attempts=1))
async def launch(rocket: str) -> str:
    """It kills its own worker when it has begun."""
    os.kill(os.getpid(), signal.SIGKILL)
    return "never said"


@durable.workflow
async def mission(rocket: str) -> str:
    """Nobody knows whether it flies: a person has to look."""
    try:
        return await launch(rocket)
    except durable.WorkerLost:
        return f"look whether {rocket} is gone"


async def work(url: str) -> None:
    """A worker's process."""
    async with durable.connect(url) as client:
        await durable.Worker(client, [mission, launch], lease=0.5).run()


async def main() -> None:
    """The first worker dies; the second one must not launch again."""
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{folder}/rockets.db?poll=0.1"
        async with durable.connect(url) as client:
            instance = await client.create_instance(mission, "Ariane")
            worker = [sys.executable, "-m", "samples.features.at_most_once", url]
            killed = await asyncio.create_subprocess_exec(*worker, cwd=ROOT)
            assert await killed.wait() == -signal.SIGKILL
            async with durable.Worker(client, [mission, launch]):
                found = await instance.result(timeout=30)
    print(found)
    assert found == "look whether Ariane is gone"


if __name__ == "__main__":
    asyncio.run(work(sys.argv[1]) if len(sys.argv) > 1 else main())
