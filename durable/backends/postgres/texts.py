"""The statements of `durable.backends.sql.server` as PostgreSQL's: marks become parameters and qualified names.

Rows are carried by arrays, one a column, which ``unnest`` makes into a relation: so a statement has the same text
however many rows it is about. Texts with NUL, which PostgreSQL cannot hold, are escaped (see ``migrations``).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from durable.backends.sql.server.session import Query, Row, Wanted, Write
from durable.backends.sql.server.tables import Kind, Table

_MARK = re.compile(r"\?|@(\w+)")
_ARRAYS: Mapping[Kind, str] = {
    "part": "int[]",
    "int": "bigint[]",
    "id": "text[]",
    "text": "text[]",
    "json": "text[]",
    "bytes": "bytea[]",
}
# The start of the statement by the server's clock. It is stable, so that an index range can begin with it.
_SERVER_TIME = "(extract(epoch from statement_timestamp()) * 1000000)::bigint"

PART = "part"
TAG_TEST = "(i.tags::jsonb ->> ?::text) = ?"


# --- values


def kept(value: Any) -> Any:
    """A value as the server keeps it."""
    if type(value) is str and ("\0" in value or "\x1a" in value):
        return value.replace("\x1a", "\x1a1").replace("\0", "\x1a0")
    return value


def given(record: Iterable[Any]) -> Row:
    """A row as it was before it was kept."""
    return tuple([_unescaped(value) if type(value) is str and "\x1a" in value else value for value in record])


def _unescaped(text: str) -> str:
    return text.replace("\x1a0", "\0").replace("\x1a1", "\x1a")


def arrays(width: int, rows: Sequence[Sequence[Any]]) -> list[list[Any]]:
    """Rows as columns."""
    return [[kept(row[n]) for row in rows] for n in range(width)]


# --- texts


class Texts:
    """Makes statements for one schema. ``clock``: time is what it says, and not the server's.

    ``by_part``: rows that say which part they are of are all of one part, and the statement names it by a parameter, so
    that a distributed server can tell from the statement alone on which machine all of it is done.
    """

    def __init__(self, schema: str, clock: Callable[[], int] | None = None, *, by_part: bool = False) -> None:
        self._schema = schema
        self._clock = clock
        self._by_part = by_part
        self._made: dict[Any, str] = {}

    def table(self, name: str) -> str:
        """A table's name, qualified."""
        return f'"{self._schema}"."{name}"'

    def plain(self, sql: str, values: Sequence[Any], wanted: Wanted | None = None) -> tuple[str, list[Any]]:
        """A statement and its parameters; with the wanted rows, if it names them."""
        parameters = _Parameters(self._clock)
        columns = None if wanted is None else tuple(wanted.columns.items())
        key = (sql, columns)
        if key not in self._made:
            self._made[key] = self._text(sql, _Numbers(len(values), timed=self._is_timed(sql)), columns)
        found = parameters.of(values, wanted, timed=self._is_timed(sql))
        return self._made[key], found + self._part_of(wanted)

    def _part_of(self, wanted: Wanted | None) -> list[Any]:
        """The parameter for the one part of these rows, if the text has one."""
        if wanted is None or not self._by_part or PART not in wanted.columns:
            return []
        return [wanted.rows[0][list(wanted.columns).index(PART)]]

    def union(self, queries: Sequence[Query]) -> tuple[str, list[Any]] | None:
        """All queries as one statement; ``None`` if none of them can give anything."""
        asked = [query for query in queries if query.each is None or query.each.rows]
        if not asked:
            return None
        key = tuple((one.sql, None if one.each is None else tuple(one.each.columns.items())) for one in asked)
        shared = _Shared(self._clock if any("@now" in one.sql for one in asked) else None)
        made = self._made.get(key)
        texts = []
        for query in asked:
            numbers = shared.take(query)
            if made is None:
                texts.append(self._each(query, numbers))
            shared.parameters += self._part_of(query.each)
        if made is None:
            made = self._made[key] = " UNION ALL ".join(f"({text})" for text in texts)
        return made, shared.parameters

    def _each(self, query: Query, numbers: _Numbers) -> str:
        columns = None if query.each is None else tuple(query.each.columns.items())
        text = self._text(query.sql, numbers, columns)
        if query.each is None:
            return text
        relation = _relation("wanted", tuple(query.each.columns.items()), numbers.wanted)
        return f"SELECT found.* FROM {relation} CROSS JOIN LATERAL ({text}) AS found"

    def _text(self, sql: str, numbers: _Numbers, wanted: tuple[tuple[str, Kind], ...] | None) -> str:
        marks = iter(range(numbers.first, numbers.first + numbers.count))

        def replaced(match: re.Match[str]) -> str:
            name = match.group(1)
            if name is None:
                return f"${next(marks)}"
            if name == "now":
                return _SERVER_TIME if self._clock is None else f"${numbers.now}::bigint"
            if name == "newest":
                return ""  # READ COMMITTED: it is
            if name == "reserved":
                return f"pg_try_advisory_xact_lock(hashtextextended(wanted.instance_id, {seed_of(self._schema)}))"
            if name == "wanted":
                return _relation("wanted", wanted or (), numbers.wanted)
            return self.table(name)

        text = _MARK.sub(replaced, sql)
        if self._by_part and wanted and PART in dict(wanted):
            return text.replace(" = wanted.part", f" = ${numbers.wanted + len(wanted)}::int")
        return text

    def _is_timed(self, sql: str) -> bool:
        return self._clock is not None and "@now" in sql

    # --- rows

    def insert(self, table: Table, columns: Sequence[str], *, if_absent: bool, first: int = 1) -> str:
        """An ``INSERT`` of rows that are given as arrays, from this parameter on."""
        key = ("insert", table.name, tuple(columns), if_absent, first)
        if key not in self._made:
            kinds = [(name, table.columns[name]) for name in columns]
            values = ", ".join(
                f'w."{name}"::json' if kind == "json" else f'w."{name}"' for name, kind in kinds
            )
            names = ", ".join(f'"{name}"' for name in columns)
            self._made[key] = (
                f"INSERT INTO {self.table(table.name)} ({names}) SELECT {values} FROM {_relation('w', kinds, first)}"
                f"{' ON CONFLICT DO NOTHING' if if_absent else ''}"
            )
        return self._made[key]

    def update(self, table: Table, columns: Sequence[str], *, first: int = 1) -> str:
        """An ``UPDATE`` by key of rows that are given as arrays, from this parameter on."""
        key = ("update", table.name, tuple(columns), first)
        if key not in self._made:
            new = [(f"new_{name}", table.columns[name]) for name in columns]
            keys = [(f"key_{name}", table.columns[name]) for name in table.key]
            sets = ", ".join(
                f'"{name}" = w.new_{name}{"::json" if table.columns[name] == "json" else ""}'
                for name in columns
            )
            same = self._same([(name, f"key_{name}") for name in table.key], len(new) + len(keys))
            relation = _relation("w", [*new, *keys], first)
            self._made[key] = f"UPDATE {self.table(table.name)} AS t SET {sets} FROM {relation} WHERE {same}"
        return self._made[key]

    def delete(self, table: Table, columns: Sequence[str], *, first: int = 1) -> str:
        """A ``DELETE`` of rows whose columns are given as arrays, from this parameter on."""
        key = ("delete", table.name, tuple(columns), first)
        if key not in self._made:
            relation = _relation("w", [(name, table.columns[name]) for name in columns], first)
            same = self._same([(name, f'"{name}"') for name in columns], len(columns))
            self._made[key] = f"DELETE FROM {self.table(table.name)} AS t USING {relation} WHERE {same}"
        return self._made[key]

    def _same(self, keys: Sequence[tuple[str, str]], count: int) -> str:
        """The condition that a row is one of ``w``; ``count``: how many parameters those have."""
        part = f"${count + 1}::int" if self._by_part else f"w.{dict(keys).get(PART)}"
        return " AND ".join(f't."{name}" = {part if name == PART else f"w.{other}"}' for name, other in keys)

    def together(self, writes: Sequence[Write]) -> tuple[str, list[Any]]:
        """All of these in one statement, which gives the count of each as a column of its one row."""
        parameters: list[Any] = []
        firsts = []
        for one in writes:
            firsts.append(len(parameters) + 1)
            parameters += arrays(width_of(one), one.rows)
        key = ("together", *((one.what, one.table.name, one.columns, one.if_absent) for one in writes))
        if key not in self._made:
            parts = [
                f"w{n} AS ({self._write(one, first)} RETURNING 1)"
                for n, (one, first) in enumerate(zip(writes, firsts, strict=True))
            ]
            counts = ", ".join(f"(SELECT count(*) FROM w{n})" for n in range(len(writes)))
            self._made[key] = f"WITH {', '.join(parts)} SELECT {counts}"
        return self._made[key], parameters

    def _write(self, one: Write, first: int) -> str:
        match one.what:
            case "insert":
                return self.insert(one.table, one.columns, if_absent=one.if_absent, first=first)
            case "update":
                return self.update(one.table, one.columns, first=first)
            case "delete":
                return self.delete(one.table, one.columns, first=first)


def seed_of(schema: str) -> int:
    """Of the hashes of ids that are reserved: another one in each schema, or tenants would wait for each other."""
    return sum(byte << (8 * n) for n, byte in enumerate(schema.encode()[:7]))


def width_of(one: Write) -> int:
    """How many values each row of a write has."""
    return len(one.columns) + (len(one.table.key) if one.what == "update" else 0)


class _Numbers:
    """Which parameters a text has: its own, then the time, then the wanted columns."""

    def __init__(self, count: int, *, timed: bool, first: int = 1, now: int | None = None) -> None:
        self.first = first
        self.count = count
        self.now = first + count if now is None else now
        self.wanted = first + count + (1 if timed and now is None else 0)


class _Parameters:
    """The parameters of a statement, in the order of `_Numbers`."""

    def __init__(self, clock: Callable[[], int] | None) -> None:
        self._clock = clock

    def of(self, values: Sequence[Any], wanted: Wanted | None, *, timed: bool) -> list[Any]:
        """All of them."""
        found = [kept(value) for value in values]
        if timed and self._clock is not None:
            found.append(self._clock())
        if wanted is not None:
            found += arrays(len(wanted.columns), wanted.rows)
        return found


class _Shared:
    """The parameters of several texts in one statement. The time is the first, and the same in all of them."""

    def __init__(self, clock: Callable[[], int] | None) -> None:
        self.parameters: list[Any] = [] if clock is None else [clock()]
        self._now = 1 if clock is not None else 0

    def take(self, query: Query) -> _Numbers:
        """Where this query's parameters are."""
        numbers = _Numbers(len(query.values), timed=False, first=len(self.parameters) + 1, now=self._now)
        self.parameters += [kept(value) for value in query.values]
        if query.each is not None:
            self.parameters += arrays(len(query.each.columns), query.each.rows)
        return numbers


def _relation(alias: str, columns: Sequence[tuple[str, Kind]], first: int) -> str:
    values = ", ".join(f"${first + n}::{_ARRAYS[kind]}" for n, (_, kind) in enumerate(columns))
    names = ", ".join(f'"{name}"' for name, _ in columns)
    return f"unnest({values}) AS {alias}({names})"
