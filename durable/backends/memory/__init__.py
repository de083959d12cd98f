"""The reference store: everything in the memory of one process, written to be read.

It is the oracle that other stores are compared with, and what tests run on. It is no place for data that must
survive: what is acknowledged lasts as long as the process.

Read `rows` (what is kept), `due` (how claims find what is ready), `tables` (the moves that several calls
share), then the three parts of the contract: `work`, `client`, `admin`; `claims` is how a claim is repeated,
`audit` what must never be.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit
from weakref import WeakKeyDictionary

from durable.backends.contract import Backend
from durable.backends.memory.admin import MemoryAdminStore
from durable.backends.memory.client import MemoryClientStore
from durable.backends.memory.tables import Tables
from durable.backends.memory.work import MemoryWorkerStore
from durable.backends.wakeup import Bell

Clock = Callable[[], int]
"""Gives the time in microseconds since the Unix epoch."""

_named: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, Tables]] = WeakKeyDictionary()
"""The stores that can be shared, for each loop: a `Bell` wakes only those who wait on its own."""

_MEANINGLESS = {
    "schema": "memory://name keeps stores apart",
    "prefix": "memory://name keeps stores apart",
    "pool_size": "it has no connections",
    "pool_idle": "it has no connections",
    "connect_timeout": "it has no connections",
}


class MemoryStore(MemoryWorkerStore, MemoryClientStore, MemoryAdminStore):
    """A user's handle of a store; several may share one, and the last to close lets go of it."""

    bell: Bell
    url: str

    def __init__(self, tables: Tables) -> None:
        MemoryWorkerStore.__init__(self, tables)
        MemoryClientStore.__init__(self, tables)
        MemoryAdminStore.__init__(self, tables)
        self.bell, self.url = tables.bell, tables.url
        tables.users += 1

    async def close(self) -> None:
        """Let go. The data goes with the last user; a second call does nothing."""
        # From here on this handle has tables without users: every call says so, and another close is nobody else's.
        tables, self._tables = self._tables, Tables(self.url, _wall_clock)
        tables.users -= 1
        shared = _named.get(asyncio.get_running_loop(), {})
        if tables.users == 0 and shared.get(self.url) is tables:
            del shared[self.url]


async def open_store(url: str, **settings: Any) -> Backend:
    """A store: ``memory://`` is a new one each time, ``memory://name`` is shared in this process (and loop).

    ``clock`` gives the time (microseconds since the epoch; the store's time never goes back even if it does).
    ``poll`` is the worker's and ignored here. Raises ``ValueError`` for any other setting or option of the
    URL.
    """
    parts = urlsplit(url)
    if parts.scheme != "memory":
        raise ValueError(f"{url!r} is not a memory:// URL")
    settings |= parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
    clock: Clock | None = settings.pop("clock", None)
    _refuse(settings)
    name = unquote(parts.netloc.rpartition("@")[2] + parts.path)
    if not name:
        return MemoryStore(Tables("memory://", clock or _wall_clock))
    return MemoryStore(_shared(f"memory://{name}", clock))


def _shared(url: str, clock: Clock | None) -> Tables:
    stores = _named.setdefault(asyncio.get_running_loop(), {})
    if url not in stores:
        stores[url] = Tables(url, clock or _wall_clock)
    elif clock is not None and clock is not stores[url].clock:
        raise ValueError(f"{url} is open already, with another clock")
    return stores[url]


def _refuse(settings: dict[str, Any]) -> None:
    for name, value in settings.items():
        if name == "poll" or value is None:
            continue
        if name in _MEANINGLESS:
            raise ValueError(f"the memory store has no option {name!r}: {_MEANINGLESS[name]}")
        raise ValueError(f"the memory store does not know the option {name!r}")


def _wall_clock() -> int:
    return time.time_ns() // 1_000
