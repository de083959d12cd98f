"""What the engine wrote to a store: every transaction that changed something, every row, in order.

A tape is taken in a round of its own that is not measured: the engine's connections are then of a class that notes what
is executed (``stores/``). In the rounds that are measured nothing is between the engine and its store.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import Enum
from typing import Any


class Mark(Enum):
    """What is on a tape beside transactions."""

    BEGIN = "the warm-up is over"
    DONE = "a workflow is done"
    CHECKPOINT = "the write-ahead log was copied into the database"


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """What is given to the driver at once, with its rows or parameters; it may be several statements in one.

    ``changed``: how many rows, by what was done to which table, for example ``{"insert history": 3}``.
    """

    sql: Any
    rows: list[Any]
    changed: dict[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Transaction:
    """The statements of one transaction that changed something. Without any, it only held locks.

    ``begin``: the words that began it, where they say how its commit reaches the disk.
    """

    statements: list[Statement]
    begin: Any = None


@dataclass(slots=True)
class Tape:
    """What happened from opening the store to closing it. The tables were there before."""

    entries: list[Transaction | Mark] = field(default_factory=list)

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
    """Per workflow: transactions that wrote, others that held locks, rows changed by kind and table."""

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
                rows.update(statement.changed)
    return Written(
        commits=commits / workflows,
        empty_transactions=empty / workflows,
        rows={target: rows[target] / workflows for target in sorted(rows)},
    )
