"""PostgreSQL, and its floor: asyncpg, one connection, the engine's statements as prepared ones, one at a time.

The floor writes the rows of a tape: the statements that changed rows, with the same arrays in the same transactions and
in the order of their commits. It leaves out every look, lock and notification; `BEGIN` and `COMMIT` stay, each a round
trip as it is for the engine. The server is private, with ``fsync`` and ``synchronous_commit`` on.
"""

from __future__ import annotations

import asyncio
import functools
import re
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import asyncpg

from benchmarks.measured import Measured, settle_garbage, timed
from benchmarks.stores.serving import Serving, serving
from benchmarks.tape import Mark, Statement, Tape, Transaction
from durable.backends.postgres.database import SETTINGS, STATEMENTS_KEPT

_CHANGE = re.compile(r'(?:^|\bw\d+ AS \()(INSERT INTO|UPDATE|DELETE FROM) (?:"\w+"\.)?"?(\w+)')
"""Where a statement that writes begins: alone, or as one of several in a ``WITH`` that selects their counts."""
_COUNT = re.compile(r"\d+$")


class Postgres:
    """See `Store`."""

    name = "postgres"
    floor_kind = (
        "the same rows in the same transactions, asyncpg, one connection, fsync and synchronous_commit on"
    )

    def __init__(self, server: Serving) -> None:
        self.new = server.new

    @contextmanager
    def recording(self, tape: Tape) -> Iterator[None]:
        """See `Store`."""
        plain = asyncpg.connect
        recorder = type("Recorder", (_Recorder,), {"tape": tape})
        asyncpg.connect = functools.partial(plain, connection_class=recorder)
        try:
            yield
        finally:
            asyncpg.connect = plain

    def floor(self, tape: Tape) -> BareRows:
        """See `Store`."""
        return BareRows(tape)


@contextmanager
def opened(name: str, directory: Path | None) -> Iterator[Postgres]:
    """See `benchmarks.stores.opened`. The server keeps its data in the system's place for such files."""
    with serving("postgres") as server:
        yield Postgres(server)


class BareRows:
    """The rows of a tape."""

    def __init__(self, tape: Tape) -> None:
        self._tape = tape

    def run(self, url: str) -> Measured:
        """See `Floor`. The latency of a workflow is what was committed between two results of the engine."""
        return asyncio.run(self._run(url))

    async def _run(self, url: str) -> Measured:
        db = await asyncpg.connect(url, server_settings=SETTINGS, statement_cache_size=STATEMENTS_KEPT)
        try:
            await _replay(db, self._tape.before())
            settle_garbage()
            with timed() as watch:
                latencies = await _replay(db, self._tape.counted())
        finally:
            await db.close()
        return Measured(seconds=watch.seconds, cpu_seconds=watch.cpu_seconds, latencies=tuple(latencies))


async def _replay(db: Any, entries: Iterable[Transaction | Mark]) -> list[float]:
    latencies = []
    began = time.perf_counter()
    for entry in entries:
        if isinstance(entry, Transaction) and entry.statements:
            await db.execute(entry.begin)
            for statement in entry.statements:
                await db.execute(statement.sql, *statement.rows)
            await db.execute("COMMIT")
        elif entry is Mark.DONE:
            now = time.perf_counter()
            latencies.append(now - began)
            began = now
    return latencies


class _Recorder(asyncpg.Connection):  # type: ignore[misc]
    tape: Tape

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._noted: list[Statement] = []
        self._begun: str | None = None

    async def execute(self, query: str, *args: Any, timeout: float | None = None) -> str:
        status: str = await super().execute(query, *args, timeout=timeout)
        count = _COUNT.search(status)
        self._note(query, args, [int(count.group()) if count else 0])
        return status

    async def fetch(self, query: str, *args: Any, timeout: float | None = None, **options: Any) -> Any:
        rows = await super().fetch(query, *args, timeout=timeout, **options)
        self._note(query, args, rows[0] if query.startswith("WITH w0") else [len(rows)])
        return rows

    def _note(self, query: str, args: tuple[Any, ...], counts: Sequence[int]) -> None:
        if query.startswith("BEGIN"):
            self._begun, self._noted = query, []
        elif query == "COMMIT":
            self._end()
        elif query == "ROLLBACK":
            self._begun, self._noted = None, []
        elif (found := _CHANGE.findall(query)) and any(counts):
            names = [f"{verb.split()[0].lower()} {table}" for verb, table in found]
            changed = dict(zip(names, counts, strict=True))
            self._noted.append(Statement(sql=query, rows=list(args), changed=changed))
            if self._begun is None:
                self._end()

    def _end(self) -> None:
        self.tape.entries.append(Transaction(statements=self._noted, begin=self._begun or "BEGIN"))
        self._begun, self._noted = None, []
