"""W1 by several processes on one store: workers and clients, each a process of its own, or both in one.

What the processes and the server take of the CPU, what the server writes, and how many connections it has, is read
while all of them work: it says what the limit is.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import durable
from benchmarks.engine import make_store
from benchmarks.processes import cpu_seconds
from benchmarks.stores.serving import Serving
from benchmarks.workloads import DEFINITIONS, W1, drive

WARM_UP = 20
PATIENCE_SECONDS = 60.0
STATISTICS_SECONDS = 1.1
"""PostgreSQL's processes tell what they have counted once a second."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Crew:
    """Who works. ``workers=0``: each client has a worker in its own process, as the other workloads do.

    ``in_flight``: workflows, of all clients together. ``options``: of each worker.
    """

    workers: int
    clients: int = 1
    in_flight: int = 200
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Worked:
    """``*_us``: of CPU a workflow. ``cores``: that all of them took. ``busiest``: of a core, of any of our processes.

    Of the server, ``None`` where there is none: ``written_bytes`` into its log a workflow, ``commits`` a workflow,
    ``connections``.
    """

    workflows: int
    per_second: float
    clients_us: float
    workers_us: float
    server_us: float
    cores: float
    busiest: float
    written_bytes: float | None
    commits: float | None
    connections: int | None


def measure(url: str, crew: Crew, seconds: float, server: Serving | None) -> Worked:
    """For so long new workflows are begun; then those in flight are finished. The store is new."""
    make_store(url)
    with ExitStack() as stack:

        def start(role: str, **job: Any) -> subprocess.Popen[str]:
            command = [sys.executable, "-m", "benchmarks.crew", role, json.dumps({"url": url, **job})]
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            stack.callback(_end, process)
            return process

        workers = [start("worker", options=dict(crew.options)) for _ in range(crew.workers)]
        _hear(workers, "ready")
        clients = [
            start(
                "client" if workers else "both",
                options=dict(crew.options),
                in_flight=crew.in_flight // crew.clients,
                seconds=seconds,
            )
            for _ in range(crew.clients)
        ]
        _hear(clients, "ready")
        return _together(clients, workers, server)


def _together(
    clients: Sequence[subprocess.Popen[str]], workers: Sequence[subprocess.Popen[str]], server: Serving | None
) -> Worked:
    before = _Look(clients, workers, server)
    for client in clients:
        _say(client, "go")
    found = [json.loads(line) for line in _hear(clients, "{")]
    connections = None if server is None else server.connections()
    after = _Look(clients, workers, server)
    if server is not None:
        time.sleep(STATISTICS_SECONDS)
        after.statistics = server.statistics()
    workflows = sum(one["workflows"] for one in found)
    seconds = max(one["seconds"] for one in found)
    ours = [
        b - a for a, b in zip(before.clients + before.workers, after.clients + after.workers, strict=True)
    ]
    of_clients, of_workers = sum(ours[: len(clients)]), sum(ours[len(clients) :])
    of_server = after.server - before.server
    return Worked(
        workflows=workflows,
        per_second=workflows / seconds,
        clients_us=of_clients / workflows * 1e6,
        workers_us=of_workers / workflows * 1e6,
        server_us=of_server / workflows * 1e6,
        cores=(of_clients + of_workers + of_server) / seconds,
        busiest=max(ours) / seconds,
        written_bytes=_per(workflows, before, after, 0),
        commits=_per(workflows, before, after, 1),
        connections=connections,
    )


class _Look:
    """What was taken and written until now."""

    def __init__(
        self,
        clients: Sequence[subprocess.Popen[str]],
        workers: Sequence[subprocess.Popen[str]],
        server: Serving | None,
    ) -> None:
        self.clients = [cpu_seconds(process.pid) for process in clients]
        self.workers = [cpu_seconds(process.pid) for process in workers]
        self.server = 0.0 if server is None else server.cpu_seconds()
        self.statistics = None if server is None else server.statistics()


def _per(workflows: int, before: _Look, after: _Look, which: int) -> float | None:
    if before.statistics is None or after.statistics is None:
        return None
    return (after.statistics[which] - before.statistics[which]) / workflows


def _hear(processes: Sequence[subprocess.Popen[str]], word: str) -> list[str]:
    """A line from each, which begins so."""
    lines = []
    for process in processes:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line.startswith(word):
            raise RuntimeError(f"a process of the crew said {line!r} instead of {word}")
        lines.append(line)
    return lines


def _say(process: subprocess.Popen[str], word: str) -> None:
    assert process.stdin is not None
    process.stdin.write(f"{word}\n")
    process.stdin.flush()


def _end(process: subprocess.Popen[str]) -> None:
    process.terminate()
    try:
        process.communicate(timeout=10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()


async def _work(job: dict[str, Any]) -> None:
    async with durable.connect(job["url"]) as client, durable.Worker(client, DEFINITIONS, **job["options"]):
        print("ready", flush=True)
        await asyncio.Event().wait()


async def _both(job: dict[str, Any]) -> None:
    async with durable.connect(job["url"]) as client, durable.Worker(client, DEFINITIONS, **job["options"]):
        await _drive(client, job)


async def _only_client(job: dict[str, Any]) -> None:
    async with durable.connect(job["url"]) as client:
        await _drive(client, job)


async def _drive(client: durable.Client, job: dict[str, Any]) -> None:
    done: list[int] = []

    async def run(number: int) -> int:
        instance = await client.create_instance(W1.workflow, number)
        return int(await instance.result())

    async with asyncio.timeout(PATIENCE_SECONDS):
        await drive(W1, run, WARM_UP)
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        began = time.perf_counter()
        until = began + job["seconds"]

        async def lane(first: int) -> None:
            number = first
            while time.perf_counter() < until:
                if await run(number) != W1.expected(number):
                    raise ValueError(f"number {number} gave a wrong result")
                done.append(number)
                number += 1

        await asyncio.gather(*(lane(at * 1_000_000) for at in range(job["in_flight"])))
        seconds = time.perf_counter() - began
    print(json.dumps({"workflows": len(done), "seconds": seconds}), flush=True)
    await asyncio.to_thread(sys.stdin.readline)  # until it is ended: its CPU time is read before


if __name__ == "__main__":
    asyncio.run(
        {"worker": _work, "both": _both, "client": _only_client}[sys.argv[1]](json.loads(sys.argv[2]))
    )
