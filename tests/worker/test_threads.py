from __future__ import annotations

import asyncio
import subprocess
import sys
import threading

import pytest

from durable.worker.threads import Threads

STUCK = """
import asyncio, threading
import durable

@durable.activity
def never() -> None:
    threading.Event().wait()

@durable.workflow
async def main() -> None:
    await never()

async def run() -> None:
    async with durable.connect("memory://") as client:
        async with durable.Worker(client, [main, never], shutdown_timeout=0.1):
            await client.create_instance(main)
            while threading.active_count() < 3:
                await asyncio.sleep(0.01)
    print("closed")

asyncio.run(run())
"""


async def test_results_errors_and_reuse() -> None:
    threads = Threads()
    assert await threads.run(lambda: 3) == 3
    with pytest.raises(ValueError, match="no"):
        await threads.run(lambda: int("no"))
    with pytest.raises(RuntimeError, match="StopIteration"):
        await threads.run(lambda: next(iter(())))
    names = {await threads.run(lambda: threading.current_thread().name) for _ in range(5)}
    assert len(names) == 1
    threads.close()


async def test_a_call_that_never_ends_takes_no_place_from_others() -> None:
    threads = Threads()
    release = threading.Event()
    stuck = threads.run(release.wait)
    assert await asyncio.gather(*(threads.run(lambda: 1) for _ in range(5))) == [1] * 5
    stuck.cancel()
    release.set()
    threads.close()


def test_a_thread_that_never_ends_does_not_keep_the_process_alive() -> None:
    done = subprocess.run(
        [sys.executable, "-c", STUCK], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.stdout == "closed\n", done.stderr
    assert done.returncode == 0
