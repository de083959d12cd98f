"""A transaction on a connection: see `durable.backends.sql.server.session.Session`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from durable.backends.postgres.address import Address
from durable.backends.postgres.failures import told_apart
from durable.backends.postgres.texts import PART, Texts, arrays, given, seed_of
from durable.backends.sql.server.session import Ended, Query, Row, Topics, Wanted, Write, one_by_one
from durable.backends.sql.server.tables import Table

_IDS = ",ended="
NOTIFY = "SELECT pg_notify($1, message) FROM unnest($2::text[]) AS message"
MESSAGE_BYTES = 7_900
MAX_MESSAGES = 16


class PostgresSession:
    """Statements on one connection."""

    def __init__(self, connection: Any, address: Address, texts: Texts) -> None:
        self._connection = connection
        self._address = address
        self._texts = texts

    async def fetch(self, sql: str, *values: Any) -> list[Row]:
        """See `Session`."""
        text, parameters = self._texts.plain(sql, values)
        return await self._fetched(text, parameters)

    async def fetch_wanted(self, sql: str, wanted: Wanted, *values: Any) -> list[Row]:
        """See `Session`."""
        found: list[Row] = []
        for some in self._cut(wanted.rows, list(wanted.columns)):
            text, parameters = self._texts.plain(sql, values, Wanted(wanted.columns, some))
            found += await self._fetched(text, parameters)
        return found

    async def fetch_each(self, sql: str, wanted: Wanted, *values: Any) -> list[Row]:
        """See `Session`."""
        return await self.fetch_union([Query(sql, values, wanted)])

    async def fetch_union(self, queries: Sequence[Query]) -> list[Row]:
        """See `Session`."""
        found: list[Row] = []
        for some in self._unions(queries):
            made = self._texts.union(some)
            found += [] if made is None else await self._fetched(*made)
        return found

    def _unions(self, queries: Sequence[Query]) -> list[Sequence[Query]]:
        """All at once, or what is about one part at a time."""
        if not self._address.group_by_part:
            return [queries]
        anywhere = [one for one in queries if one.each is None or PART not in one.each.columns]
        by_part: dict[int, list[Query]] = {}
        for one in queries:
            if one.each is not None and PART in one.each.columns:
                names = list(one.each.columns)
                for rows in self._cut(one.each.rows, names):
                    query = Query(one.sql, one.values, Wanted(one.each.columns, rows))
                    by_part.setdefault(rows[0][names.index(PART)], []).append(query)
        return [one for one in (anywhere, *(by_part[part] for part in sorted(by_part))) if one]

    async def execute(self, sql: str, *values: Any) -> int:
        """See `Session`."""
        text, parameters = self._texts.plain(sql, values)
        return await self._executed(text, parameters)

    async def insert(
        self,
        table: Table,
        rows: Sequence[Sequence[Any]],
        *,
        columns: Sequence[str] | None = None,
        if_absent: bool = False,
    ) -> int:
        """See `Session`."""
        if not rows:
            return 0
        names = tuple(columns or table.columns)
        text = self._texts.insert(table, names, if_absent=if_absent)
        return await self._executed(text, arrays(len(names), rows))

    async def update(self, table: Table, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> int:
        """See `Session`."""
        names = [*(f"new {name}" for name in columns), *table.key]
        text, count = self._texts.update(table, columns), 0
        for some in self._cut(rows, names):
            count += await self._executed(text, arrays(len(names), some) + self._one_part(some, names))
        return count

    async def delete(self, table: Table, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> int:
        """See `Session`."""
        text, count = self._texts.delete(table, columns), 0
        for some in self._cut(rows, columns):
            count += await self._executed(text, arrays(len(columns), some) + self._one_part(some, columns))
        return count

    def _cut(self, rows: Sequence[Sequence[Any]], names: Sequence[str]) -> list[Sequence[Sequence[Any]]]:
        """With ``group_by_part``: those of one part at a time, in the order of parts. Rows of no part stay together."""
        if not rows:
            return []
        if not self._address.group_by_part or PART not in names:
            return [rows]
        at = names.index(PART)
        of_part: dict[int, list[Sequence[Any]]] = {}
        for row in rows:
            of_part.setdefault(row[at], []).append(row)
        return [of_part[part] for part in sorted(of_part)]

    def _one_part(self, rows: Sequence[Sequence[Any]], names: Sequence[str]) -> list[Any]:
        return [rows[0][names.index(PART)]] if self._address.group_by_part and PART in names else []

    async def write(self, writes: Sequence[Write], *, last: bool = False) -> list[int]:
        """See `Session`. In one round trip: the parts of a ``WITH`` that write are all done, whoever reads them."""
        if len(writes) < 2 or self._address.group_by_part:
            return await one_by_one(self, writes)
        text, parameters = self._texts.together(writes)
        (counts,) = await self._fetched(text, parameters)
        return list(counts)

    async def reserve(self, keys: Sequence[tuple[int, str]]) -> set[str]:
        """By an advisory lock of the transaction on each id: nothing else can stand for a row that is not there."""
        text = (
            "SELECT name FROM unnest($1::text[]) AS name "
            "WHERE NOT pg_try_advisory_xact_lock(hashtextextended(name, $2))"
        )
        names = [name for _, name in keys]
        rows = await self._fetched(
            text, [arrays(1, [(name,) for name in names])[0], seed_of(self._address.schema)]
        )
        return {row[0] for row in rows}

    async def announce(self, topics: Topics) -> None:
        """See `Session`."""
        if topics and self._address.wakeups:
            await self._fetched(NOTIFY, [channel_of(self._address.schema), messages_of("", topics, None)])

    async def _fetched(self, text: str, parameters: Sequence[Any]) -> list[Row]:
        with told_apart(self._address):
            rows = await self._connection.fetch(text, *parameters, timeout=self._address.call_seconds)
        return [given(row) for row in rows]

    async def _executed(self, text: str, parameters: Sequence[Any]) -> int:
        with told_apart(self._address):
            status = await self._connection.execute(text, *parameters, timeout=self._address.call_seconds)
        return int(status.rsplit(" ", 1)[-1])


def channel_of(schema: str) -> str:
    """Where the stores of a schema tell each other."""
    return f"durable_{schema}"


def messages_of(origin: str, topics: Topics, ended: Ended) -> list[str]:
    """What is told, in as many messages as the ids of what has ended need; beyond some, without them.

    ``origin``: who tells, so as not to hear oneself. Ids stand in JSON at the end, where earlier releases, which know
    topics alone, pass over them.
    """
    plain = f"{origin}:{','.join(sorted(topics))}"
    if ended is None or "closed" not in topics:
        return [plain]
    messages: list[str] = []
    room = 0
    for one in map(json.dumps, ended):
        if len(one) + 1 > room:
            messages.append(f"{plain}{_IDS}[{one}")
            room = MESSAGE_BYTES - len(messages[-1])
        else:
            messages[-1] += f",{one}"
            room -= len(one) + 1
    return [f"{one}]" for one in messages] if len(messages) <= MAX_MESSAGES else [plain]


def told_by(message: str) -> tuple[str, Topics, Ended]:
    """Who tells what: the reverse of `messages_of`."""
    text, _, ids = message.partition(_IDS)
    origin, _, topics = text.partition(":")
    return origin, set(topics.split(",")), set(json.loads(ids)) if ids else None
