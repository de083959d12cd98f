"""A transaction (or reads without one) on one connection: fulfils `durable.backends.sql.server.session.Session`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from durable.backends.mysql.driver import Link, Result
from durable.backends.mysql.failures import CONFLICTS, CULPRITS, Failure, TooLarge, explain
from durable.backends.mysql.statements import Statements
from durable.backends.mysql.writing import counted, matched, packets_of, pieces_of
from durable.backends.sql.server.session import Again, Culprit, Query, Row, Topics, Wanted, Write
from durable.backends.sql.server.tables import Table
from durable.errors import BackendError

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
        self._mine = bool(begin)
        self._committed = False
        self._shares = b" LOCK IN SHARE MODE" if shares else b""

    async def run(self, statement: bytes) -> Result:
        """One statement."""
        return (await self.run_all([statement]))[0]

    async def run_all(self, statements: Sequence[bytes]) -> list[Result]:
        """Statements in one packet. The server's errors come out as `Again`, `Culprit` or `BackendError`."""
        begin, self._begin = self._begin, b""
        try:
            return (await self.link.run(begin + b";".join(statements)))[-len(statements) :]
        except Failure as failure:
            raise translated(failure, self.url) from failure
        except TooLarge as error:
            self._begin = begin
            raise Culprit(str(error)) from error

    async def commit(self) -> None:
        """End the transaction, if anything was done in it and it has not ended with its last write."""
        if not self._begin and not self._committed:
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
            return self._statements.bound(sql, values, wanted, shares=self._shares)
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
        """See the protocol."""
        names = tuple(columns or table.columns)
        return (await self.write([Write("insert", table, names, rows, if_absent)]))[0]

    async def update(self, table: Table, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> int:
        """See the protocol."""
        return (await self.write([Write("update", table, tuple(columns), rows)]))[0]

    async def delete(self, table: Table, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> int:
        """See the protocol."""
        return (await self.write([Write("delete", table, tuple(columns), rows)]))[0]

    async def write(self, writes: Sequence[Write], *, last: bool = False) -> list[int]:
        """See the protocol. A statement each, in one packet; the last of them has the commit in it, unless rows may be
        there already: what came of those is looked at first.
        """
        counts = [0] * len(writes)
        most = self.link.max_packet
        ends = last and self._mine and not any(one.if_absent for one in writes)
        try:
            packets = list(packets_of(pieces_of(self._statements, writes, most), most))
            for n, some in enumerate(packets, 1):
                end = [b"COMMIT"] if ends and n == len(packets) else []
                results = await self.run_all([one.statement for one in some] + end)
                self._committed = bool(end)
                for piece, result in zip(some, results[: len(some)], strict=True):
                    counts[piece.number] += counted(piece, result)
        except ValueError as error:
            raise _culprit(error) from error
        return counts

    # --- the rest

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


def translated(failure: Failure, url: str) -> Exception:
    """What a failure means to the shared layer."""
    if failure.number in CONFLICTS:
        return Again(str(failure))
    if failure.number in CULPRITS:
        return Culprit(str(failure))
    return BackendError(explain(url, failure))


def _culprit(error: ValueError) -> Culprit:
    return Culprit(" ".join(f"{type(error).__name__}: {error}".split()))
