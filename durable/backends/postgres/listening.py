"""LISTEN and NOTIFY, on one connection of their own: what was committed here is told, what others tell is heard.

Hints, no more: they are gathered for some milliseconds, and lost while there is no connection. When it is there again,
everything is rung for, since nobody knows what was missed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import secrets
from collections.abc import Awaitable, Callable
from typing import Any

from durable.backends.postgres.address import Address
from durable.backends.postgres.sessions import NOTIFY, channel_of, messages_of, told_by
from durable.backends.sql.server.session import Ended, Topics
from durable.errors import BackendError

GATHER_SECONDS = 0.005
PAUSE_SECONDS = (0.1, 5.0)
CHECK_SECONDS = 15.0
MAX_ENDED = 2_000
"""Of more runs that ended since it told the last time, it does not say which."""
ALL_TOPICS = frozenset({"workflow", "activity", "question", "closed", "reply"})
_log = logging.getLogger("durable")


class Wire:
    """Tells and hears."""

    def __init__(self, address: Address, connect: Callable[[], Awaitable[Any]]) -> None:
        self._address = address
        self._connect = connect
        self._origin = secrets.token_hex(4)
        self._channel = channel_of(address.schema)
        self._hear: Callable[[Topics, Ended], None] = lambda _, __: None
        self._untold: Topics = set()
        self._ended: Ended = set()
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.connection: Any = None
        """While it listens."""

    def listen(self, hear: Callable[[Topics, Ended], None]) -> None:
        """Begin."""
        self._hear = hear
        self._task = asyncio.get_running_loop().create_task(self._run())

    def tell(self, topics: Topics, ended: Ended) -> None:
        """Others should look."""
        self._untold |= topics
        if "closed" in topics:
            many = ended is None or self._ended is None or len(self._ended) + len(ended) > MAX_ENDED
            self._ended = None if many else {*(self._ended or ()), *(ended or ())}
        self._news.set()

    async def close(self) -> None:
        """End. What was not told stays untold."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _run(self) -> None:
        pause, missed = PAUSE_SECONDS[0], False
        while True:
            try:
                connection = await self._connect()
            except BackendError as error:
                _log.debug("no wake-ups for now: %s", error)
            else:
                pause = PAUSE_SECONDS[0]
                try:
                    await self._serve(connection, missed=missed)
                except Exception as error:
                    _log.debug("no wake-ups for now: %s: %s", type(error).__name__, error)
                finally:
                    self.connection = None
                    connection.terminate()
            missed = True
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))
            pause = min(pause * 2, PAUSE_SECONDS[1])

    async def _serve(self, connection: Any, *, missed: bool) -> None:
        timeout = self._address.call_seconds
        await connection.add_listener(self._channel, self._heard)
        connection.add_termination_listener(lambda _: self._news.set())
        self.connection = connection
        if missed:
            self._hear(set(ALL_TOPICS), None)
        while not connection.is_closed():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CHECK_SECONDS):
                    await self._news.wait()
            await asyncio.sleep(GATHER_SECONDS)
            self._news.clear()
            topics, ended = self._untold, self._ended
            self._untold, self._ended = set(), set()
            if topics:
                messages = messages_of(self._origin, topics, ended)
                await connection.fetch(NOTIFY, self._channel, messages, timeout=timeout)
            elif not connection.is_closed():
                await connection.fetch("SELECT 1", timeout=timeout)

    def _heard(self, _connection: Any, _pid: int, _channel: str, payload: object) -> None:
        try:
            origin, topics, ended = told_by(str(payload))
        except ValueError as error:
            _log.debug("a wake-up that cannot be read: %s", error)
            return
        if origin != self._origin:
            self._hear(topics & ALL_TOPICS, ended)
