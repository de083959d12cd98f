"""A server as tests have it: its URL, databases of one's own on it, and, if it is ours alone, the way to hurt it."""

from __future__ import annotations

import asyncio
import json
import secrets
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

from durable.testing.servers.plan import Plan, Unavailable

KEEPER = Path(__file__).with_name("keeper.py")


class Server:
    """One running server. Not to be made directly: `durable.testing.servers.private` and ``shared`` give them.

    ``service`` is ``"postgres"`` or ``"mysql"``; ``source`` says in words where it comes from; ``url`` is of a user
    who may create databases; ``pid`` is the server's process (of a container: the client's), or 0 if it is not ours.
    """

    def __init__(
        self, service: str, source: str, url: str, pid: int = 0, keeper: Keeper | None = None
    ) -> None:
        self.service = service
        self.source = source
        self.url = url
        self.pid = pid
        self._keeper = keeper

    async def __aenter__(self) -> Server:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def start(self) -> None:
        """Start it again, on the same data and port. Returns when it answers."""
        await self._tell("start")

    async def stop(self) -> None:
        """End it politely. Its data stay."""
        await self._tell("stop")

    async def kill(self) -> None:
        """End it with SIGKILL: it and its children. Its data stay."""
        await self._tell("kill")

    async def pause(self) -> None:
        """Stop its processes with SIGSTOP: connections stay open, and nothing answers."""
        await self._tell("pause")

    async def resume(self) -> None:
        """Let its processes go on (SIGCONT)."""
        await self._tell("resume")

    async def close(self) -> None:
        """End it, if it is ours alone, and remove its data."""
        if self._keeper is not None:
            await asyncio.to_thread(self._keeper.close)

    @property
    def folder(self) -> Path:
        """Of a private server: where its data and its log are."""
        if self._keeper is None:
            raise RuntimeError(f"{self.source} is shared, or not ours: where its data are is not known here")
        return Path(self._keeper.state["folder"])

    @property
    def plan(self) -> Plan:
        """Of a private server: how it was started."""
        if self._keeper is None:
            raise RuntimeError(f"{self.source} is shared, or not ours: how it was started is not known here")
        return self._keeper.plan

    @property
    def keeper_pid(self) -> int:
        """Of a private server: the process that keeps it, and takes it along at its own end."""
        if self._keeper is None:
            raise RuntimeError(f"{self.source} is shared, or not ours: its keeper is not known here")
        pid: int = self._keeper.state["keeper"]
        return pid

    @asynccontextmanager
    async def database(self) -> AsyncIterator[str]:
        """The URL of a new, empty database, which is dropped at the end."""
        url = await self.create_database()
        try:
            yield url
        finally:
            await self.drop_database(url)

    async def create_database(self) -> str:
        """The URL of a new, empty database."""
        name = f"durable_{secrets.token_hex(6)}"
        await _execute(self.url, f"CREATE DATABASE {name}")
        return urlunsplit(urlsplit(self.url)._replace(path=f"/{name}"))

    async def drop_database(self, url: str) -> None:
        """Drop one that `create_database` made, whoever is still connected to it."""
        name = urlsplit(url).path.removeprefix("/")
        if not name.startswith("durable_"):
            raise ValueError(f"{name!r} was not made by create_database: it stays")
        forced = " WITH (FORCE)" if self.service == "postgres" else ""
        await _execute(self.url, f"DROP DATABASE IF EXISTS {name}{forced}")

    async def _tell(self, word: str) -> None:
        if self._keeper is None:
            raise RuntimeError(
                f"{self.source} is shared, or not ours: only a private server can be told to {word}"
            )
        state = await asyncio.to_thread(self._keeper.ask, word)
        self.pid = state["pid"]


class Keeper:
    """The pipe to the process that keeps a server. The calls block."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self._process = subprocess.Popen(
            [sys.executable, "-I", str(KEEPER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            self.state = self._ask(json.dumps(plan.as_message()))
        except BaseException:
            self.close()
            raise

    def ask(self, word: str) -> dict[str, Any]:
        """Do it, and return when it is done: the keeper's state. Raises `Unavailable` with what went wrong."""
        self.state = self._ask(word)
        return self.state

    def _ask(self, line: str) -> dict[str, Any]:
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            self._process.stdin.write(f"{line}\n")
            self._process.stdin.flush()
            answer = self._process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        state: dict[str, Any] = json.loads(answer or '{"error": "the keeper of the server is gone"}')
        if "error" in state:
            raise Unavailable(state["error"])
        return state

    def leave(self) -> None:
        """Close the pipe without waiting: a shared server's keeper looks at the lock of its users instead."""
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            stream.close()
        self._process.returncode = 0  # it is not ours to wait for: the last user may be another process

    def close(self) -> None:
        """Close the pipe, which ends server and keeper, and wait for that."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()


async def _execute(url: str, statement: str) -> None:
    run: Callable[[str, str], Any] = _postgres if url.startswith("postgres") else _mysql
    await run(url, statement)


async def _postgres(url: str, statement: str) -> None:
    import asyncpg

    connection = await asyncpg.connect(url, timeout=30)
    try:
        await connection.execute(statement, timeout=30)
    finally:
        await connection.close()


async def _mysql(url: str, statement: str) -> None:
    import aiomysql

    parts = urlsplit(url)
    connection = await aiomysql.connect(
        host=parts.hostname,
        port=parts.port or 3306,
        user=unquote(parts.username or ""),
        password=unquote(parts.password or ""),
        connect_timeout=30,
    )
    try:
        async with connection.cursor() as cursor:
            await cursor.execute(statement)
    finally:
        await connection.ensure_closed()
