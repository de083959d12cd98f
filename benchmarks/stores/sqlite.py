"""SQLite, and its floor: one connection in one thread, WAL, ``synchronous = FULL``, one ``executemany`` a statement.

The floor writes the rows of a tape: the same statements with the same values in the same transactions on the same
tables and indexes, checkpoints where the engine made them. It reads nothing, decides nothing and runs no workflow, so
no engine that writes these rows in these transactions can be faster.
"""

from __future__ import annotations

import functools
import re
import sqlite3
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.measured import Measured, settle_garbage, timed
from benchmarks.tape import Mark, Statement, Tape, Transaction

COMMITS_TRIED = 50
_PREFIX = "sqlite:///"
_CHANGE = re.compile(
    r"\s*(INSERT|REPLACE|UPDATE|DELETE)\b(?:\s+OR\s+\w+)?(?:\s+(?:INTO|FROM))?\s+(\w+)", re.IGNORECASE
)


class Sqlite:
    """See `Store`. ``directory``: where the files are, the disk that is measured."""

    name = "sqlite"
    version = ""
    floor_kind = "the same rows in the same transactions, sqlite3 in one thread, WAL, synchronous=FULL"

    def __init__(self, directory: Path | None) -> None:
        self._directory = directory

    @contextmanager
    def new(self) -> Iterator[str]:
        """See `Store`."""
        with tempfile.TemporaryDirectory(prefix="durable-bench-", dir=self._directory) as name:
            yield f"{_PREFIX}{Path(name).resolve()}/store.db"

    @contextmanager
    def recording(self, tape: Tape) -> Iterator[None]:
        """See `Store`."""
        plain = sqlite3.connect
        recorder = type("Recorder", (_Recorder,), {"tape": tape})
        sqlite3.connect = functools.partial(plain, factory=recorder)  # type: ignore[assignment]
        try:
            yield
        finally:
            sqlite3.connect = plain

    def floor(self, tape: Tape) -> BareRows:
        """See `Store`."""
        return BareRows(tape)


@contextmanager
def opened(name: str, directory: Path | None) -> Iterator[Sqlite]:
    """See `benchmarks.stores.opened`."""
    yield Sqlite(directory)


class BareRows:
    """The rows of a tape."""

    def __init__(self, tape: Tape) -> None:
        self._tape = tape

    def run(self, url: str) -> Measured:
        """See `Floor`. The latency of a workflow is what was committed between two results of the engine."""
        db = open_bare(Path(url.removeprefix(_PREFIX)))
        try:
            _replay(db, self._tape.before())
            settle_garbage()
            with timed() as watch:
                latencies = _replay(db, self._tape.counted())
        finally:
            db.close()
        return Measured(seconds=watch.seconds, cpu_seconds=watch.cpu_seconds, latencies=tuple(latencies))


def open_bare(path: Path) -> sqlite3.Connection:
    """A connection with the durability of the engine's: each commit is on the disk before it returns."""
    db = sqlite3.connect(path, isolation_level=None, cached_statements=512)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    db.execute("PRAGMA wal_autocheckpoint = 0")
    return db


def _replay(db: sqlite3.Connection, entries: Iterable[Transaction | Mark]) -> list[float]:
    latencies = []
    began = time.perf_counter()
    for entry in entries:
        if isinstance(entry, Transaction):
            _write(db, entry)
        elif entry is Mark.CHECKPOINT:
            db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        elif entry is Mark.DONE:
            now = time.perf_counter()
            latencies.append(now - began)
            began = now
    return latencies


def _write(db: sqlite3.Connection, transaction: Transaction) -> None:
    if not transaction.statements:
        return
    db.execute("BEGIN IMMEDIATE")
    for statement in transaction.statements:
        db.executemany(statement.sql, statement.rows)
    db.execute("COMMIT")


def commit_us(directory: Path) -> float:
    """Microseconds that one commit of one row takes here: how slow this disk's fsync is."""
    db = open_bare(directory / "commit.db")
    try:
        db.execute("CREATE TABLE one (number INTEGER)")
        with timed() as watch:
            for number in range(COMMITS_TRIED):
                db.execute("INSERT INTO one VALUES (?)", (number,))
    finally:
        db.close()
    return watch.seconds / COMMITS_TRIED * 1e6


class _Recorder(sqlite3.Connection):
    tape: Tape

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._statements: list[Statement] = []
        self._savepoints: list[tuple[str, int]] = []

    def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
        if found := _CHANGE.match(sql):
            run = functools.partial(super().execute, sql, parameters)
            return self._changing(found, sql, [parameters], run)
        if sql.startswith("PRAGMA wal_checkpoint"):
            self.tape.entries.append(Mark.CHECKPOINT)
        cursor = super().execute(sql, parameters)
        self._follow(sql)
        return cursor

    def executemany(self, sql: str, parameters: Iterable[Any], /) -> sqlite3.Cursor:
        rows = list(parameters)
        found = _CHANGE.match(sql)
        assert found is not None, "executemany changes rows"
        return self._changing(found, sql, rows, functools.partial(super().executemany, sql, rows))

    def _changing(self, found: re.Match[str], sql: str, rows: list[Any], go: Any) -> sqlite3.Cursor:
        before = self.total_changes
        cursor: sqlite3.Cursor = go()
        if changed := self.total_changes - before:
            counts = {f"{found[1].lower()} {found[2]}": changed}
            self._statements.append(Statement(sql=sql, rows=rows, changed=counts))
            if not self.in_transaction:
                self._end()
        return cursor

    def _follow(self, sql: str) -> None:
        match sql.upper().split():
            case ["SAVEPOINT", name]:
                self._savepoints.append((name, len(self._statements)))
            case ["ROLLBACK", "TO", name]:
                kept = next(at for its_name, at in reversed(self._savepoints) if its_name == name)
                del self._statements[kept:]
            case ["RELEASE", name]:
                while self._savepoints.pop()[0] != name:
                    pass
            case ["COMMIT"] | ["END"]:
                self._end()
            case ["ROLLBACK"]:
                self._statements, self._savepoints = [], []

    def _end(self) -> None:
        self.tape.entries.append(Transaction(statements=self._statements))
        self._statements, self._savepoints = [], []
