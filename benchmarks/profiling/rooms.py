"""Which part of the engine is at work, seen from a stack.

The innermost function whose file belongs to a room decides; what it calls of the standard library counts as its own.
"""

from __future__ import annotations

import linecache
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import durable

CLIENT = "client"
WORKER = "worker"
CORE = "core: workflow loop, replay, primitives"
PAYLOAD = "payloads, events, messages"
ROWS = "store: batches, judging, rows"
DRIVER = "store: driver, socket, SQLite's own"
LOOP = "asyncio"
REST = "the rest"
ROOMS = (CLIENT, WORKER, CORE, PAYLOAD, ROWS, DRIVER, LOOP, REST)

_ENGINE = f"{Path(durable.__file__).parent}/"
_WORDS = ("payload", "history", "events", "messages", "step_bytes", "typed_dicts", "failure", "attributes")
_DRIVERS = re.compile(r"/(asyncpg|aiomysql|asyncmy|pymysql|aiosqlite|sqlite3)/")
_SOCKETS = re.compile(r"/asyncio/(selector_events|streams|sslproto|transports)\.py$")
_LOOPS = re.compile(r"/(asyncio|uvloop)/|/selectors\.py$")
_CALLS = re.compile(r"\.(execute\w*|fetch\w*|query|next_result|commit|rollback|run)\(|\bawait\b")
"""A line of a store that hands over to its driver. What compiled code does there has no function of its own to see."""
_HANDS = re.compile(
    r"^backends/(sqlite/lane|postgres/(pool|sessions|listening)|mysql/(driver|pool|sessions))\.py$"
)


@dataclass(frozen=True, slots=True)
class Frame:
    """A function at a line of its file."""

    function: str
    file: str
    line: int

    @property
    def place(self) -> str:
        """For people: the file as one would import it."""
        if self.file.startswith(_ENGINE):
            return self.file.removeprefix(str(Path(_ENGINE).parent) + "/")
        return "/".join(Path(self.file).parts[-2:])


def room_of(stack: Sequence[Frame]) -> str:
    """Of a stack, outermost function first."""
    for at in range(len(stack) - 1, -1, -1):
        room = _room(stack[at])
        if room == LOOP and any(_is_workflow_loop(frame) for frame in stack[:at]):
            return CORE  # asyncio's own functions, but the workflow called them
        if room is not None:
            return room
    return REST


def _is_workflow_loop(frame: Frame) -> bool:
    return frame.file == f"{_ENGINE}core/loop.py"


def _room(frame: Frame) -> str | None:
    if frame.file.startswith(_ENGINE):
        return _of_engine(frame, frame.file.removeprefix(_ENGINE))
    if _DRIVERS.search(frame.file) or _SOCKETS.search(frame.file):
        return DRIVER
    if _LOOPS.search(frame.file):
        return LOOP
    return REST if "/benchmarks/" in frame.file else None


def _of_engine(frame: Frame, file: str) -> str:
    part, _, rest = file.partition("/")
    if part in ("client", "worker"):
        return {"client": CLIENT, "worker": WORKER}[part]
    if part == "backends":
        return _of_store(frame, file)
    if part == "core" and rest.removesuffix(".py") in _WORDS:
        return PAYLOAD
    return CORE if part in ("core", "primitives") else REST


def _of_store(frame: Frame, file: str) -> str:
    if _HANDS.match(file):
        return DRIVER
    own = file.startswith(
        ("backends/sqlite/", "backends/postgres/", "backends/mysql/", "backends/sql/server/")
    )
    return DRIVER if own and _CALLS.search(linecache.getline(frame.file, frame.line)) else ROWS
