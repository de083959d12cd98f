"""The same without the engine: what the store, or nothing at all, would need for it.

*SQLite*: a bare script. One connection in one thread, WAL, ``synchronous = FULL``, one ``executemany`` a statement. It
writes the rows of a tape: the same statements with the same values in the same transactions on the same tables and
indexes, checkpoints where the engine made them. It reads nothing, decides nothing and runs no workflow, so no engine
that writes these rows can be faster.

*memory*: the same functions called as plain asyncio. It keeps nothing; the ratio is the price of the engine as such.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

from benchmarks.engine import Measured, measure_engine, settle_garbage, timed, url_of
from benchmarks.tape import Mark, Tape, Transaction, Written, recording, schema_of, written
from benchmarks.workloads import Workload, drive

ALONE_WORKFLOWS = 5
COMMITS_TRIED = 50


class Floor(Protocol):
    """Something to measure the engine against."""

    kind: str

    def run(self, directory: Path) -> Measured:
        """One round, with files in this empty directory."""
        ...


class PlainFunctions:
    """The workflows' functions, called."""

    kind = "the same functions as plain asyncio, nothing kept"

    def __init__(self, workload: Workload, count: int) -> None:
        self._workload = workload
        self._count = count

    def run(self, directory: Path) -> Measured:
        """See `Floor`."""
        return asyncio.run(self._run())

    async def _run(self) -> Measured:
        async def run(number: int) -> int:
            return int(await self._workload.workflow(number))

        settle_garbage()
        with timed() as watch:
            latencies = await drive(self._workload, run, self._count)
        return Measured(seconds=watch.seconds, cpu_seconds=watch.cpu_seconds, latencies=tuple(latencies))


class BareRows:
    """The rows of a tape."""

    kind = "the same rows in the same transactions, sqlite3 in one thread, WAL, synchronous=FULL"

    def __init__(self, tape: Tape) -> None:
        self._tape = tape

    def run(self, directory: Path) -> Measured:
        """See `Floor`. The latency of a workflow is what was committed between two results of the engine."""
        db = open_bare(directory / "floor.db")
        try:
            for sql in self._tape.schema:
                db.execute(sql)
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


def record(workload: Workload, directory: Path, count: int, *, in_flight: int | None = None) -> Tape:
    """Run a workload on the engine in this empty directory, and keep what it wrote."""
    tape = Tape()
    url = url_of("sqlite", directory)
    with recording(tape):
        measure_engine(workload, url, count, in_flight=in_flight, begin=tape.begin, done=tape.done)
    tape.schema = schema_of(str(directory / "engine.db"))
    return tape


def written_alone(workload: Workload, directory: Path) -> Written:
    """What a workflow writes when it has the store to itself: no other shares its commits."""
    return written(record(workload, directory, ALONE_WORKFLOWS, in_flight=1))


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
