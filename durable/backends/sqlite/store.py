"""The store itself: two lanes and a bell, and how they are opened and closed."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any, cast
from urllib.parse import parse_qsl

from durable.backends.contract import Backend
from durable.backends.sqlite.admin_calls import AdminCalls
from durable.backends.sqlite.client_calls import ClientCalls
from durable.backends.sqlite.crews import Clock, Reader, Writer
from durable.backends.sqlite.hearing import HearingBell
from durable.backends.sqlite.lane import Lane
from durable.backends.sqlite.opening import Address, parse_url, warn_of_old_sqlite
from durable.backends.sqlite.transactions import TransactionCalls
from durable.backends.sqlite.worker_calls import WorkerCalls
from durable.backends.wakeup import Topic

BUSY_TIMEOUT_SECONDS = 30.0
HEAR_SECONDS = 0.03
"""How often other processes are listened for, while somebody waits."""

_MEANINGLESS = {
    "schema": "SQLite has no schemas; use another file",
    "prefix": "use another file",
    "pool_size": "it has one connection that writes and one that reads",
    "pool_idle": "it has one connection that writes and one that reads",
    "connect_timeout": "there is no server; 'busy_timeout_seconds' limits the wait for another process",
}


class SqliteStore(WorkerCalls, ClientCalls, AdminCalls, TransactionCalls):
    """See `durable.backends.contract.Backend`."""

    def __init__(self, address: Address, clock: Clock, patience_seconds: float) -> None:
        self.url = address.url
        self._address = address
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self.bell = HearingBell(self._hear)
        writing = Writer(address, clock, patience_seconds, self._ring)
        reading = Reader(address, clock, patience_seconds)
        super().__init__(Lane(address.url, writing), Lane(address.url, reading))

    async def start(self) -> None:
        """Open the file: first to write, which may make it, then to read."""
        await self._writer.start()
        try:
            await self._reader.start()
        except BaseException:
            await self._writer.close()
            raise

    async def close(self) -> None:
        """Let go of the file, after the calls that are under way. A second call does nothing."""
        await self._roll_back_what_is_open()
        await self._reader.close()
        await self._writer.close()

    def _hear(self, listening: bool) -> None:
        self._writer.idle_seconds = HEAR_SECONDS if listening else None
        self._writer.wake()

    def _ring(self, topics: set[str], ended: set[str] | None) -> None:
        """Called by the writer's thread."""
        with contextlib.suppress(RuntimeError):  # the loop was closed: nobody listens there any more
            self._loop.call_soon_threadsafe(self._rung, cast(set[Topic], topics), ended)

    def _rung(self, topics: set[Topic], ended: set[str] | None) -> None:
        for topic in topics:
            self.bell.ring(topic, ids=ended if topic == "closed" else None)


async def open_store(url: str, **settings: Any) -> Backend:
    """Open ``sqlite:///relative.db`` or ``sqlite:////absolute.db``; the file is made if it is not there.

    ``clock`` gives the time in microseconds since the epoch (default: the host's; it never goes back).
    ``busy_timeout_seconds`` (default 30) is how long a call waits for another process that holds the write lock.
    ``poll`` is the worker's and ignored here. Raises ``ValueError`` for other settings and options, `BackendError`
    for a file that cannot be used.
    """
    plain, _, query = url.partition("?")
    settings |= parse_qsl(query, keep_blank_values=True)
    clock: Callable[[], int] | None = settings.pop("clock", None)
    patience = settings.pop("busy_timeout_seconds", None)
    _refuse(settings)
    address = parse_url(plain)
    warn_of_old_sqlite()
    seconds = BUSY_TIMEOUT_SECONDS if patience is None else float(patience)
    store = SqliteStore(address, Clock(clock), seconds)
    await store.start()
    return cast(Backend, store)


def _refuse(settings: dict[str, Any]) -> None:
    for name, value in settings.items():
        if name == "poll" or value is None:
            continue
        if name in _MEANINGLESS:
            raise ValueError(f"the SQLite store has no option {name!r}: {_MEANINGLESS[name]}")
        raise ValueError(
            f"the SQLite store does not know the option {name!r}; it has 'poll' in the URL and busy_timeout_seconds="
        )
