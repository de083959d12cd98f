"""What the engine wrote to SQLite: every transaction that changed something, every row, in order.

A tape is taken in a round of its own that is not measured: the engine's connections are then a subclass that notes what
is executed. In the rounds that are measured nothing is between the engine and SQLite.
"""

from __future__ import annotations

import functools
import re
import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

_CHANGE = re.compile(
    r"\s*(INSERT|REPLACE|UPDATE|DELETE)\b(?:\s+OR\s+\w+)?(?:\s+(?:INTO|FROM))?\s+(\w+)", re.IGNORECASE
)


class Mark(Enum):
    """What is on a tape beside transactions."""

    BEGIN = "the warm-up is over"
    DONE = "a workflow is done"
    CHECKPOINT = "the write-ahead log was copied into the database"


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """One statement with its rows, and how many rows of the table it changed."""

    sql: str
    rows: list[Any]
    changed: int

    @property
    def target(self) -> str:
        """For example ``insert history``."""
        found = _CHANGE.match(self.sql)
        assert found is not None, "only statements that change rows are kept"
        return f"{found[1].lower()} {found[2]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Transaction:
    """The statements of one transaction that changed something. Without any, it only held the write lock."""

    statements: list[Statement]


@dataclass(slots=True)
class Tape:
    """``schema`` makes the tables and indexes that the rows need; ``entries`` from opening the file to closing it."""

    entries: list[Transaction | Mark] = field(default_factory=list)
    schema: list[str] = field(default_factory=list)

    def begin(self) -> None:
        """From here on it counts."""
        self.entries.append(Mark.BEGIN)

    def done(self) -> None:
        """A workflow has its result."""
        self.entries.append(Mark.DONE)

    def counted(self) -> list[Transaction | Mark]:
        """What was written between the end of the warm-up and the result of the last workflow."""
        first = self.entries.index(Mark.BEGIN) + 1
        last = max(at for at, entry in enumerate(self.entries) if entry is Mark.DONE)
        return self.entries[first : last + 1]

    def before(self) -> list[Transaction | Mark]:
        """What was written before."""
        return self.entries[: self.entries.index(Mark.BEGIN)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """Per workflow: transactions that wrote, others that held the write lock, rows changed by kind and table."""

    commits: float
    empty_transactions: float
    rows: dict[str, float]


def written(tape: Tape) -> Written:
    """What is on a tape, per workflow."""
    entries = tape.counted()
    workflows = entries.count(Mark.DONE)
    rows: Counter[str] = Counter()
    commits = empty = 0
    for entry in entries:
        if isinstance(entry, Transaction):
            commits += bool(entry.statements)
            empty += not entry.statements
            for statement in entry.statements:
                rows[statement.target] += statement.changed
    return Written(
        commits=commits / workflows,
        empty_transactions=empty / workflows,
        rows={target: rows[target] / workflows for target in sorted(rows)},
    )


@contextmanager
def recording(tape: Tape) -> Iterator[None]:
    """Connections that are opened inside write down what they do."""
    plain = sqlite3.connect
    recorder = type("Recorder", (_Recorder,), {"tape": tape})
    sqlite3.connect = functools.partial(plain, factory=recorder)  # type: ignore[assignment]
    try:
        yield
    finally:
        sqlite3.connect = plain


def schema_of(path: str) -> list[str]:
    """The statements that make the tables, indexes and triggers of a database."""
    db = sqlite3.connect(path)
    try:
        found = db.execute(
            "SELECT sql FROM sqlite_master WHERE type <> 'view' AND sql IS NOT NULL ORDER BY rowid"
        )
        return [sql for (sql,) in found]
    finally:
        db.close()


class _Recorder(sqlite3.Connection):
    tape: Tape

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._statements: list[Statement] = []
        self._savepoints: list[tuple[str, int]] = []

    def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
        if _CHANGE.match(sql):
            return self._changing(sql, [parameters], functools.partial(super().execute, sql, parameters))
        if sql.startswith("PRAGMA wal_checkpoint"):
            self.tape.entries.append(Mark.CHECKPOINT)
        found = super().execute(sql, parameters)
        self._follow(sql)
        return found

    def executemany(self, sql: str, parameters: Iterable[Any], /) -> sqlite3.Cursor:
        rows = list(parameters)
        return self._changing(sql, rows, functools.partial(super().executemany, sql, rows))

    def _changing(self, sql: str, rows: list[Any], go: Any) -> sqlite3.Cursor:
        before = self.total_changes
        found: sqlite3.Cursor = go()
        if changed := self.total_changes - before:
            self._statements.append(Statement(sql=sql, rows=rows, changed=changed))
            if not self.in_transaction:
                self._end()
        return found

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
