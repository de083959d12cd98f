"""A client and a worker that have nothing to do: share of a core, and on the servers what they ask for in a second."""

from __future__ import annotations

import asyncio
import functools
import importlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import durable
from benchmarks import loops
from benchmarks.probes.reading import Reading
from benchmarks.stores import Store
from benchmarks.workloads import DEFINITIONS

TITLE = "an idle worker"
STORES = ("memory", "sqlite", "postgres", "mysql")
ROUNDS = 1
SETTLE_SECONDS, SECONDS = 3.0, 12.0
QUICK_SECONDS = 1.0


def run(url: str, store: Store, quick: bool) -> list[Reading]:
    """See `Probe`."""
    with _counting(store.name) as counted:
        return loops.run(_measure(url, QUICK_SECONDS if quick else SECONDS, counted))


async def _measure(url: str, seconds: float, counted: list[int] | None) -> list[Reading]:
    async with durable.connect(url) as client, durable.Worker(client, DEFINITIONS):
        await asyncio.sleep(min(SETTLE_SECONDS, seconds))
        before = len(counted or ())
        began, cpu_began = time.perf_counter(), time.process_time()
        await asyncio.sleep(seconds)
        wall, cpu = time.perf_counter() - began, time.process_time() - cpu_began
        asked = len(counted or ()) - before
    readings = [Reading(name="of a core", value=cpu / wall * 100, unit="%", aim="<= 1")]
    if counted is not None:
        readings.append(Reading(name="queries", value=asked / wall, unit="/s", aim="<= 2"))
    return readings


@contextmanager
def _counting(name: str) -> Iterator[list[int] | None]:
    """Connections that are opened inside count what they send, while somebody looks. ``None``: no server is asked."""
    store, _, driver = name.partition("/")
    counted: list[int] = []
    if store == "postgres":
        with _patched_postgres(counted):
            yield counted
    elif store == "mysql":
        module: Any = importlib.import_module(f"{driver or 'aiomysql'}.connection")
        plain = module.Connection
        module.Connection = type("Connection", (plain,), _query_counter(plain, counted))
        try:
            yield counted
        finally:
            module.Connection = plain
    else:
        yield None


@contextmanager
def _patched_postgres(counted: list[int]) -> Iterator[None]:
    import asyncpg

    class Counter(asyncpg.Connection):  # type: ignore[misc]
        async def execute(self, *args: Any, **options: Any) -> Any:
            counted.append(1)
            return await super().execute(*args, **options)

        async def fetch(self, *args: Any, **options: Any) -> Any:
            counted.append(1)
            return await super().fetch(*args, **options)

    plain = asyncpg.connect
    asyncpg.connect = functools.partial(plain, connection_class=Counter)
    try:
        yield
    finally:
        asyncpg.connect = plain


def _query_counter(plain: Any, counted: list[int]) -> dict[str, Any]:
    async def query(self: Any, sql: Any, unbuffered: bool = False) -> Any:
        counted.append(1)
        return await plain.query(self, sql, unbuffered)

    return {"query": query, "__module__": plain.__module__}
