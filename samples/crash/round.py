"""One round: workflows are started, a worker process is killed in their middle, the next one goes on to the end."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import durable
from samples.crash import ledger, workflow
from samples.crash.workflow import climb

WORKFLOWS = 6
STEPS = 8
LEASE_SECONDS = 1.0
PATIENCE_SECONDS = 60.0
ROOT = Path(__file__).resolve().parent.parent.parent

Steps = set[tuple[str, int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """What was seen. ``recorded``: the steps, as (instance id, number), whose results the histories held at the kill;
    ``events``: how often each kind of event is in each history at the end; ``gap_seconds``: from the kill until the
    ledger grew again.
    """

    lines: list[ledger.Line]
    recorded: Steps
    events: dict[str, Counter[str]]
    results: dict[str, int]
    killed_pid: int
    gap_seconds: float


async def play(folder: Path, chance: random.Random) -> Round:
    """Play one round in an empty folder. Raises `TimeoutError` if the workflows do not end."""
    url, path = f"sqlite:///{folder / 'crash.db'}", folder / "ledger.txt"
    kill_after_lines = chance.randrange(WORKFLOWS, 2 * WORKFLOWS * STEPS * 3 // 4)
    async with durable.connect(url) as client:
        started = [
            await client.create_instance(climb, STEPS, id=f"climb-{n}") for n in range(1, WORKFLOWS + 1)
        ]
        async with _worker(url, path) as first:
            await _lines(path, kill_after_lines)
            os.kill(first.pid, signal.SIGKILL)
            await first.wait()
        killed_at = time.monotonic()
        before = len(ledger.read(path))
        recorded = {step for instance in started for step in await _recorded(instance)}
        async with _worker(url, path):
            await _lines(path, before + 1)
            gap_seconds = time.monotonic() - killed_at
            results = await asyncio.gather(*(instance.result(PATIENCE_SECONDS) for instance in started))
        return Round(
            lines=ledger.read(path),
            recorded=recorded,
            events={instance.id: await _kinds(instance) for instance in started},
            results={instance.id: found for instance, found in zip(started, results, strict=True)},
            killed_pid=first.pid,
            gap_seconds=gap_seconds,
        )


async def work(url: str) -> None:
    """What the worker process does, until it is told to stop, or killed."""
    async with durable.connect(url) as client:
        await durable.Worker(client, [workflow], lease=LEASE_SECONDS).run()


@asynccontextmanager
async def _worker(url: str, path: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    command = [sys.executable, "-m", "samples.crash", "--worker", url]
    process = await asyncio.create_subprocess_exec(
        *command, cwd=ROOT, env={**os.environ, workflow.LEDGER: str(path)}
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()


async def _lines(path: Path, count: int) -> None:
    """Wait until the ledger has so many lines."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while len(ledger.read(path)) < count:  # noqa: ASYNC110
            await asyncio.sleep(0.005)  # another process writes it, so there is nothing else to wait for


async def _recorded(instance: durable.Instance[int]) -> Steps:
    """The steps whose results the history holds. The activities are scheduled in the order of their numbers."""
    history = await instance.history()
    scheduled = [event.fields["number"] for event in history if event.kind == "activity_scheduled"]
    completed = {event.fields["number"] for event in history if event.kind == "activity_completed"}
    return {(instance.id, number) for number, command in enumerate(scheduled, 1) if command in completed}


async def _kinds(instance: durable.Instance[int]) -> Counter[str]:
    return Counter(event.kind for event in await instance.history())
