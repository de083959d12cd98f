"""PostgreSQL, and its floor: asyncpg, one connection, the engine's statements as prepared ones, one at a time.

The floor writes the rows of a tape: the statements that changed rows, with the same arrays in the same transactions and
in the order of their commits. It leaves out every look, lock and notification. Where the engine judges and writes in
one statement, the floor's has the rows without the judging (`bare`). `BEGIN` and `COMMIT` stay where the engine has
them, each a round trip as it is for the engine. The server is private, with ``fsync`` and ``synchronous_commit`` on.
"""

from __future__ import annotations

import functools
import re
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import asyncpg

from benchmarks import loops
from benchmarks.measured import Measured, settle_garbage, timed
from benchmarks.stores.serving import Serving, serving
from benchmarks.tape import Mark, Statement, Tape, Transaction
from durable.backends.postgres.database import SETTINGS, STATEMENTS_KEPT

_CHANGE = re.compile(r'(?:^|\bw\d+ AS \()(INSERT INTO|UPDATE|DELETE FROM) (?:"\w+"\.)?"?(\w+)')
"""Where a statement that writes begins: alone, or as one of several in a ``WITH`` that selects their counts."""
_COUNT = re.compile(r"\d+$")
_WRITES = re.compile(r'(?<!FOR )\b(INSERT INTO|UPDATE|DELETE FROM) "')
_ONE_STATEMENT = re.compile(r"WITH w AS .*, (?:made|moved) AS \((?:INSERT INTO|UPDATE) ", re.DOTALL)
_WANTED = "SELECT wanted.*"


class Postgres:
    """See `Store`."""

    name = "postgres"
    floor_kind = (
        "the same rows in the same transactions, asyncpg, one connection, fsync and synchronous_commit on"
    )

    def __init__(self, server: Serving) -> None:
        self.new = server.new
        self.version = server.version
        self.server = server

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
        return loops.run(self._run(url))

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
            if entry.begin is not None:
                await db.execute(entry.begin)
            for statement in entry.statements:
                await db.execute(statement.sql, *statement.rows)
            if entry.begin is not None:
                await db.execute("COMMIT")
        elif entry is Mark.DONE:
            now = time.perf_counter()
            latencies.append(now - began)
            began = now
    return latencies


def bare(query: str) -> str:
    """A statement that writes, without what it judges: every row that is wanted is had, and nothing is locked."""
    found, at = "", len("WITH ")
    while True:
        start = query.index("(", at)
        end = _closing(query, start)
        body = query[start + 1 : end]
        if body.startswith(_WANTED):
            body = body[: _closing(body, body.index("(", body.index(" AS wanted("))) + 1]
        elif body.startswith("SELECT "):
            body = "SELECT w.* FROM w"
        found += f"{query[at:start]}({body})"
        if not query.startswith(", ", end + 1):
            return f"WITH {found}{query[end + 1 :]}"
        at = end + 1


def _closing(text: str, start: int) -> int:
    """Where the parenthesis ends that begins here. No text of the engine's has one in quotes."""
    depth = 0
    for at in range(start, len(text)):
        depth += {"(": 1, ")": -1}.get(text[at], 0)
        if depth == 0:
            return at
    raise ValueError(f"no parenthesis ends in {text[start:]}")


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
        if _ONE_STATEMENT.match(query):
            self._note_bare(query, args, rows)
        else:
            self._note(query, args, rows[0] if query.startswith("WITH w0") else [len(rows)])
        return rows

    def _note_bare(self, query: str, args: tuple[Any, ...], rows: Sequence[Any]) -> None:
        """A batch that its statement judges, too. Those that it refused are written by another, later."""
        done = {row["instance_id"] for row in rows}
        kept = [at for at, name in enumerate(args[1]) if name in done]
        if kept:
            runs = re.search(r"\((INSERT INTO|UPDATE) ", query)
            assert runs is not None
            changed = {f"{runs[1].split()[0].lower()} instances": len(kept)}
            arrays = [[column[at] for at in kept] for column in args]
            self._noted.append(Statement(sql=bare(query), rows=arrays, changed=changed))
            if self._begun is None:
                self._end()

    def _note(self, query: str, args: tuple[Any, ...], counts: Sequence[int]) -> None:
        if query.startswith("BEGIN"):
            self._begun, self._noted = query, []
        elif query == "COMMIT":
            self._end()
        elif query == "ROLLBACK":
            self._begun, self._noted = None, []
        elif any(counts) and ((found := _CHANGE.findall(query)) or _WRITES.search(query)):
            names = [f"{verb.split()[0].lower()} {table}" for verb, table in found]
            # Of another form, like a claim: written again as it is, with what it reads.
            changed = dict(zip(names, counts, strict=True)) if found else {"in other statements": sum(counts)}
            self._noted.append(Statement(sql=query, rows=list(args), changed=changed))
            if self._begun is None:
                self._end()

    def _end(self) -> None:
        self.tape.entries.append(Transaction(statements=self._noted, begin=self._begun))
        self._begun, self._noted = None, []
