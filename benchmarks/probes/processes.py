"""W10: W1 by one worker process and by four, on one server. The client is a process of its own."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from contextlib import ExitStack

import durable
from benchmarks.engine import make_store
from benchmarks.probes.reading import Reading
from benchmarks.stores import Store
from benchmarks.workloads import DEFINITIONS, W1, drive

TITLE = "four worker processes against one"
STORES = ("postgres", "mysql")
MANY = 4
WORKFLOWS, QUICK_WORKFLOWS = 2_000, 100
IN_FLIGHT = 200
PATIENCE_SECONDS = 120.0


def run(url: str, store: Store, quick: bool) -> list[Reading]:
    """See `Probe`. One and four on a new database each."""
    count = QUICK_WORKFLOWS if quick else WORKFLOWS
    one = _rate(url, 1, count)
    with store.new() as another:
        many = _rate(another, MANY, count)
    return [
        Reading(name="one process", value=one, unit="wf/s"),
        Reading(name=f"{MANY} processes", value=many, unit="wf/s"),
        Reading(name=f"{MANY} against one", value=many / one, unit="x", aim=">= 1.3"),
    ]


def _rate(url: str, workers: int, count: int) -> float:
    make_store(url)
    command = [sys.executable, "-m", "benchmarks.probes.processes", url]
    with ExitStack() as stack:
        crew = []
        for _ in range(workers):
            process = subprocess.Popen(command, stdout=subprocess.PIPE)
            stack.callback(_end, process)
            crew.append(process)
        for process in crew:
            assert process.stdout is not None
            if process.stdout.readline() != b"ready\n":
                raise RuntimeError("a worker did not start")
        return asyncio.run(_drive(url, count))


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    assert process.stdout is not None
    process.stdout.close()


async def _drive(url: str, count: int) -> float:
    async with asyncio.timeout(PATIENCE_SECONDS), durable.connect(url) as client:

        async def run(number: int) -> int:
            instance = await client.create_instance(W1.workflow, number)
            return int(await instance.result())

        await drive(W1, run, 20)
        began = time.perf_counter()
        await drive(W1, run, count, in_flight=IN_FLIGHT)
        return count / (time.perf_counter() - began)


async def _work(url: str) -> None:
    async with durable.connect(url) as client, durable.Worker(client, DEFINITIONS):
        print("ready", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_work(sys.argv[1]))
