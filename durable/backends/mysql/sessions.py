"""A transaction (or reads without one) on one connection: fulfils `durable.backends.sql.server.session.Session`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from durable.backends.mysql.driver import Link, Result
from durable.backends.mysql.failures import CONFLICTS, CULPRITS, Failure, TooLarge, explain
from durable.backends.mysql.literals import json_row
from durable.backends.mysql.literals import row as row_literal
from durable.backends.mysql.statements import Statements
from durable.backends.sql.server.session import Again, Culprit, Query, Row, Topics, Wanted
from durable.backends.sql.server.tables import Table
from durable.errors import BackendError

_FIRST_NUMBER = re.compile(r"\d+")
_ROOM = 16 * 1024
"""Bytes of a statement that are not its rows, at most."""

PROBE = (
    "SELECT i.instance_id FROM @instances AS i JOIN @wanted ON i.part = wanted.part "
    "AND i.instance_id = wanted.instance_id FOR UPDATE NOWAIT"
)


class LinkSession:
    """See the protocol. ``begin`` is sent before the first statement, in one packet with it.

    ``shares``: what is only read is read with shared locks, because a snapshot of this transaction may be old.
    """

    def __init__(
        self, link: Link, statements: Statements, url: str, *, begin: bytes = b"", shares: bool = False
    ) -> None:
        self.link = link
        self._statements = statements
        self.url = url
        self._begin = begin
        self._shares = b" LOCK IN SHARE MODE" if shares else b""

    async def run(self, statement: bytes) -> Result:
        """One statement. The server's errors come out as `Again`, `Culprit` or `BackendError`."""
        begin, self._begin = self._begin, b""
        try:
            return (await self.link.run(begin + statement))[-1]
        except Failure as failure:
            raise translated(failure, self.url) from failure
        except TooLarge as error:
            self._begin = begin
            raise Culprit(str(error)) from error

    async def commit(self) -> None:
        """End the transaction, if anything was done in it."""
        if not self._begin:
            await self.run(b"COMMIT")

    # --- reading

    async def fetch(self, sql: str, *values: Any) -> list[Row]:
        """See the protocol."""
        return (await self.run(self._shared(self._bound(sql, values)))).rows

    async def fetch_wanted(self, sql: str, wanted: Wanted, *values: Any) -> list[Row]:
        """See the protocol."""
        if not wanted.rows:
            return []
        return (await self.run(self._shared(self._bound(sql, values, wanted)))).rows

    async def fetch_each(self, sql: str, wanted: Wanted, *values: Any) -> list[Row]:
        """See the protocol."""
        return await self.fetch_union([Query(sql, values, wanted)])

    async def fetch_union(self, queries: Sequence[Query]) -> list[Row]:
        """See the protocol."""
        parts: list[bytes] = []
        for query in queries:
            try:
                if query.each is None:
                    parts.append(self._statements.bound(query.sql, query.values))
                else:
                    parts += self._statements.bound_each(query.sql, query.each, query.values)
            except ValueError as error:
                raise _culprit(error) from error
        if not parts:
            return []
        return (await self.run(b" UNION ALL ".join([b"(%b)" % self._shared(part) for part in parts]))).rows

    def _bound(self, sql: str, values: Sequence[Any], wanted: Wanted | None = None) -> bytes:
        try:
            return self._statements.bound(sql, values, wanted)
        except ValueError as error:
            raise _culprit(error) from error

    def _shared(self, statement: bytes) -> bytes:
        if not self._shares or b"FOR UPDATE" in statement[-40:] or not statement.startswith(b"SELECT"):
            return statement
        return statement + self._shares

    # --- writing

    async def execute(self, sql: str, *values: Any) -> int:
        """See the protocol."""
        return matched(await self.run(self._bound(sql, values)))

    async def insert(
        self,
        table: Table,
        rows: Sequence[Sequence[Any]],
        *,
        columns: Sequence[str] | None = None,
        if_absent: bool = False,
    ) -> int:
        """See the protocol. ``INSERT IGNORE`` would also cut what is too long: any other remark is an error."""
        start = self._statements.insert(table, columns or tuple(table.columns), if_absent=if_absent)
        count = 0
        for some in self._packets(map(row_literal, rows)):
            result = await self.run(start + b",".join(some))
            left = len(some) - result.affected
            if if_absent and result.warnings > left:
                raise Culprit(f"{result.warnings} of {len(some)} rows do not fit into {table.name}")
            count += result.affected
        return count

    async def update(self, table: Table, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> int:
        """See the protocol."""
        before, after = self._statements.update(table, columns)
        count = 0
        for some in self._packets(map(json_row, rows)):
            count += matched(await self.run(b"%b'[%b]'%b" % (before, b",".join(some), after)))
        return count

    async def delete(self, table: Table, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> int:
        """See the protocol."""
        if not rows:
            return 0
        try:
            statement = self._statements.delete(table, columns, rows)
        except ValueError as error:
            raise _culprit(error) from error
        return (await self.run(statement)).affected

    def _packets(self, pieces: Iterable[bytes]) -> Iterator[list[bytes]]:
        """Cut so that each statement is one that the server takes."""
        some: list[bytes] = []
        size, most = 0, self.link.max_packet - _ROOM
        try:
            for piece in pieces:
                if some and size + len(piece) > most:
                    yield some
                    some, size = [], 0
                some.append(piece)
                size += len(piece) + 1
        except ValueError as error:
            raise _culprit(error) from error
        if some:
            yield some

    # --- the rest

    async def write(self, writes: Sequence[Write]) -> list[int]:
        """See the protocol."""
        return await one_by_one(self, writes)

    async def reserve(self, keys: Sequence[tuple[int, str]]) -> set[str]:
        """See the protocol. It reserves nothing, but tells what is being inserted: a row that cannot be locked.

        Two that make the same instance at once both come through; then the later insert waits for the earlier.
        """
        try:
            await self._probe(keys)
        except Again:
            return {key[1] for key in keys if await self._is_locked(key)}
        return set()

    async def _is_locked(self, key: tuple[int, str]) -> bool:
        try:
            await self._probe([key])
        except Again:
            return True
        return False

    async def _probe(self, keys: Sequence[tuple[int, str]]) -> None:
        wanted = Wanted({"part": "part", "instance_id": "id"}, keys)
        await self.run(self._bound(PROBE, (), wanted))

    async def announce(self, topics: Topics) -> None:
        """See the protocol. There is nothing to tell others with: they poll."""


def matched(result: Result) -> int:
    """How many rows an ``UPDATE`` has found, from the server's remark (in any language: the first number)."""
    found = _FIRST_NUMBER.search(result.note)
    return result.affected if found is None else int(found.group())


def translated(failure: Failure, url: str) -> Exception:
    """What a failure means to the shared layer."""
    if failure.number in CONFLICTS:
        return Again(str(failure))
    if failure.number in CULPRITS:
        return Culprit(str(failure))
    return BackendError(explain(url, failure))


def _culprit(error: ValueError) -> Culprit:
    return Culprit(" ".join(f"{type(error).__name__}: {error}".split()))
