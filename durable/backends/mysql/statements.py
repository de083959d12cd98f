"""Statements: from the plain SQL of the shared layer, with its marks, to what MySQL and MariaDB take.

What differs from the plain text:

- ``@instances`` becomes the table, with its database; ``@now`` microseconds since the epoch, from ``UTC_TIMESTAMP(6)``:
  the same everywhere in one statement, so that it can bound an index range (``SYSDATE`` cannot), and independent of
  the time zone of the session.
- ``@wanted`` becomes ``JSON_TABLE``, and comes first (``STRAIGHT_JOIN``) whatever the optimizer thinks of it: a locking
  read locks all that it scans, so a scan would lock what nobody asked for. The rows come, and are locked, in the
  order in which they are wanted; so a locking read needs no ``ORDER BY``, which would sort whole rows.
- ``FOR UPDATE OF i``: MariaDB has no ``OF``. A table function has nothing to lock, so it may go.
- ``DELETE FROM t AS i``: MariaDB wants ``DELETE i FROM t AS i``. ``AS key``: the word is reserved.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from durable.backends.mysql.indexes import with_indexes
from durable.backends.mysql.literals import json_rows, literal, name
from durable.backends.sql.server.session import Wanted
from durable.backends.sql.server.tables import TABLES, Kind, Table

NOW = "TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6))"

_OF = re.compile(r"\bFOR (UPDATE|SHARE) OF \w+")
_WANTED_LAST = re.compile(r"FROM (@\w+ AS \w+) JOIN @wanted ON\b")
_WANTED_FIRST = re.compile(r"(@wanted\s+)JOIN\b")
_ORDER_OF_LOCKS = re.compile(r"ORDER BY [\w., ]+ (?=FOR (?:UPDATE|SHARE)\b)")
_KEY = re.compile(r"(?<=\bAS )key\b")
_DELETE = re.compile(r"^\s*DELETE FROM @(\w+) AS (\w+)")
_MARK = re.compile(r"\?|@\w+|wanted\.\w+")
_TYPES: Mapping[Kind, str] = {
    "part": "TINYINT UNSIGNED",
    "int": "BIGINT",
    "id": "VARBINARY(4096)",
    "text": "LONGTEXT CHARACTER SET utf8mb4",
    "json": "LONGTEXT CHARACTER SET utf8mb4",
}
Piece = str | bytes
"""Bytes are sent as they are; texts are marks that are still to be replaced."""


class Statements:
    """The statements of one store."""

    def __init__(self, schema: str, clock: Callable[[], int] | None = None) -> None:
        self._schema = schema
        self._clock = clock
        self._pieces = lru_cache(maxsize=512)(self._cut)

    def table(self, table: str) -> str:
        """A table, in full."""
        return f"{name(self._schema)}.{name(table)}"

    def now(self) -> bytes:
        """The time, as an expression."""
        return NOW.encode() if self._clock is None else b"%d" % self._clock()

    # --- plain statements

    def bound(
        self, sql: str, values: Sequence[Any], wanted: Wanted | None = None, *, shares: bytes = b""
    ) -> bytes:
        """A statement with its values; ``@wanted`` is the relation of these rows, ``@newest`` the clause ``shares``."""
        given, made, now = iter(values), [], b""
        for piece in self._pieces(sql):
            if isinstance(piece, bytes):
                made.append(piece)
            elif piece == "?":
                made.append(literal(next(given)))
            elif piece == "@now":
                made.append(now := now or self.now())
            elif piece == "@wanted" and wanted is not None:
                made.append(_json_table(wanted))
            elif piece == "@newest":
                made.append(shares)
            else:
                made.append(piece.encode())
        return b"".join(made)

    def bound_each(self, sql: str, wanted: Wanted, values: Sequence[Any]) -> list[bytes]:
        """The statement once for each of the rows, with the row's values in the place of ``wanted.<column>``."""
        names = {f"wanted.{column}": n for n, column in enumerate(wanted.columns)}
        now = self.now()
        return [self._bound_one(sql, names, row, values, now) for row in wanted.rows]

    def _bound_one(
        self, sql: str, names: Mapping[str, int], row: Sequence[Any], values: Sequence[Any], now: bytes
    ) -> bytes:
        given, made = iter(values), []
        for piece in self._pieces(sql):
            if isinstance(piece, bytes):
                made.append(piece)
            elif piece == "?":
                made.append(literal(next(given)))
            elif piece == "@now":
                made.append(now)
            else:
                made.append(literal(row[names[piece]]))
        return b"".join(made)

    def _cut(self, sql: str) -> tuple[Piece, ...]:
        text = _DELETE.sub(r"DELETE \2 FROM @\1 AS \2", _OF.sub(r"FOR \1", sql))
        if "@wanted" in text:
            text = _WANTED_LAST.sub(r"FROM @wanted STRAIGHT_JOIN \1 ON", text)
            text = _ORDER_OF_LOCKS.sub("", _WANTED_FIRST.sub(r"\1STRAIGHT_JOIN", text))
        text = _KEY.sub("`key`", with_indexes(text))
        pieces: list[Piece] = []
        at = 0
        for found in _MARK.finditer(text):
            mark = found.group()
            table = mark[1:]
            pieces.append(text[at : found.start()].encode())
            pieces.append(self.table(table).encode() if mark[0] == "@" and table in TABLES else mark)
            at = found.end()
        pieces.append(text[at:].encode())
        return tuple(piece for piece in pieces if piece)

    # --- many rows

    def insert(self, table: Table, columns: Sequence[str], *, if_absent: bool) -> bytes:
        """The beginning of an ``INSERT``, up to ``VALUES``."""
        verb = "INSERT IGNORE" if if_absent else "INSERT"
        return f"{verb} INTO {self.table(table.name)} ({_names(columns)}) VALUES ".encode()

    def update(self, table: Table, columns: Sequence[str]) -> tuple[bytes, bytes]:
        """An ``UPDATE`` by key: what comes before and after the rows (`json_row`, with commas between).

        A value that does not fit is an error here, and not NULL as it is for a key that is looked for.
        """
        kinds = {f"new {column}": table.columns[column] for column in columns}
        kinds |= {column: table.columns[column] for column in table.key}
        fields = ", ".join(f"t.{name(column)} = wanted.{name('new ' + column)}" for column in columns)
        after = f"{_json_columns(kinds, ' ERROR ON ERROR')} {self._joined(table, table.key)} SET {fields}"
        return b"UPDATE JSON_TABLE('[", f"]'{after}".encode()

    def delete(self, table: Table, columns: Sequence[str]) -> tuple[bytes, bytes]:
        """A ``DELETE`` of the rows with these values in these columns, likewise."""
        kinds = {column: table.columns[column] for column in columns}
        after = f"{_json_columns(kinds)} {self._joined(table, columns)}"
        return b"DELETE t FROM JSON_TABLE('[", f"]'{after}".encode()

    def _joined(self, table: Table, columns: Sequence[str]) -> str:
        same = " AND ".join(f"t.{name(column)} = wanted.{name(column)}" for column in columns)
        return f"STRAIGHT_JOIN {self.table(table.name)} AS t FORCE INDEX (PRIMARY) ON {same}"


def _json_table(wanted: Wanted) -> bytes:
    return b"JSON_TABLE(%b%b" % (json_rows(wanted.rows), _json_columns(wanted.columns).encode())


def _json_columns(columns: Mapping[str, Kind], otherwise: str = "") -> str:
    made = ", ".join(
        f"{name(column)} {_TYPES[kind]} PATH '$[{n}]'{otherwise}"
        for n, (column, kind) in enumerate(columns.items())
    )
    return f", '$[*]' COLUMNS ({made})) AS wanted"


def _names(columns: Sequence[str]) -> str:
    return ", ".join(name(column) for column in columns)
