"""Duroxide: its runtime in Rust, orchestrations and activities in Python; a file in WAL mode, or PostgreSQL."""

# ruff: noqa: D103
from __future__ import annotations

import itertools
from typing import Any

from duroxide import Client, PostgresProvider, Runtime, RuntimeOptions, SqliteProvider
from job import HOUR_SECONDS, JOB, STEPS, WIDTH, measure_in_threads, measure_starts_in_threads

PATIENCE_MS = 60_000
NAMES = {"W1": "one_activity", "W2": "ten_in_sequence", "W3": "fan_out", "W4": "one_activity"}
numbers = itertools.count()
url: str = JOB["url"]
provider = SqliteProvider.open(url) if url.startswith("sqlite") else PostgresProvider.connect(url)
runtime = Runtime(
    provider,
    RuntimeOptions(dispatcher_poll_interval_ms=10, orchestration_concurrency=4, worker_concurrency=8),
)


@runtime.register_activity("add_one")
def add_one(ctx: Any, number: int) -> int:
    return number + 1


@runtime.register_orchestration("one_activity")
def one_activity(ctx: Any, number: int) -> Any:
    return (yield ctx.schedule_activity("add_one", number))


@runtime.register_orchestration("ten_in_sequence")
def ten_in_sequence(ctx: Any, number: int) -> Any:
    for _ in range(STEPS):
        number = yield ctx.schedule_activity("add_one", number)
    return number


@runtime.register_orchestration("fan_out")
def fan_out(ctx: Any, number: int) -> Any:
    found = yield ctx.all([ctx.schedule_activity("add_one", number + n) for n in range(WIDTH)])
    return sum(one["ok"] if isinstance(one, dict) else one for one in found)


sleeping: list[int] = []


@runtime.register_orchestration("sleeper")
def sleeper(ctx: Any, number: int) -> Any:
    sleeping.append(1)
    yield ctx.schedule_timer(HOUR_SECONDS * 1000)


def start() -> None:
    client.start_orchestration(f"bench-{next(numbers)}", "sleeper", 0)


def run(number: int) -> Any:
    instance = f"bench-{next(numbers)}"
    client.start_orchestration(instance, NAMES[JOB["workload"]], number)
    return client.wait_for_orchestration(instance, PATIENCE_MS).output


runtime.start()
client = Client(provider)
if JOB["workload"] == "W5":
    measure_starts_in_threads(start, lambda: len(sleeping))
measure_in_threads(run)
runtime.shutdown()
