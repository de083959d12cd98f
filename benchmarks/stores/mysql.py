"""MariaDB (or MySQL), and its floor: the engine's driver, one connection, the engine's statements, one at a time.

The floor writes the rows of a tape: the statements that changed rows, byte for byte but for the database's name, in the
same transactions and in the order of their commits. It leaves out every look and lock; the word that begins a
transaction goes in one packet with the first statement, as it does for the engine. The server is private and keeps the
durability that it has from its makers: the log is flushed at each commit.
"""

from __future__ import annotations

import importlib
import re
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks import loops
from benchmarks.measured import Measured, settle_garbage, timed
from benchmarks.stores.serving import Serving, serving
from benchmarks.tape import Mark, Statement, Tape, Transaction
from durable.backends.mysql.address import parse_url
from durable.backends.mysql.driver import connect

BEGIN = b"START TRANSACTION;"
LAST = b";COMMIT"
_CHANGE = re.compile(rb"(?:^|;)(INSERT|UPDATE|DELETE)\b.*?(`durable_[0-9a-f]+`\.)`(\w+)`", re.DOTALL)
"""A statement that writes, up to the name of its table: alone, or one of several in a packet."""


class Mysql:
    """See `Store`. ``driver``: aiomysql or asyncmy."""

    def __init__(self, name: str, driver: str, server: Serving) -> None:
        self.name = name
        self.floor_kind = (
            f"the same rows in the same transactions, {driver}, one connection, log flushed at each commit"
        )
        self.new = server.new
        self.version = server.version
        self.server = server
        self._driver = driver

    @contextmanager
    def recording(self, tape: Tape) -> Iterator[None]:
        """See `Store`."""
        module: Any = importlib.import_module(f"{self._driver}.connection")
        plain = module.Connection
        module.Connection = type("Connection", (plain,), _recorder(plain, tape))
        try:
            yield
        finally:
            module.Connection = plain

    def floor(self, tape: Tape) -> BareRows:
        """See `Store`."""
        return BareRows(tape)


@contextmanager
def opened(name: str, directory: Path | None) -> Iterator[Mysql]:
    """See `benchmarks.stores.opened`. ``mysql/asyncmy`` names the driver that is not the default."""
    driver = name.partition("/")[2] or "aiomysql"
    with serving("mysql", f"?driver={driver}") as server:
        yield Mysql(name, driver, server)


class BareRows:
    """The rows of a tape."""

    def __init__(self, tape: Tape) -> None:
        self._tape = tape

    def run(self, url: str) -> Measured:
        """See `Floor`. The latency of a workflow is what was committed between two results of the engine."""
        return loops.run(self._run(url))

    async def _run(self, url: str) -> Measured:
        address = parse_url(url)
        name = f"`{address.schema}`.".encode()
        link = await connect(address)
        try:
            await _replay(link.raw, _packets(self._tape.before(), name))
            packets = _packets(self._tape.counted(), name)
            settle_garbage()
            with timed() as watch:
                latencies = await _replay(link.raw, packets)
        finally:
            await link.close()
        return Measured(seconds=watch.seconds, cpu_seconds=watch.cpu_seconds, latencies=tuple(latencies))


def _packets(entries: Iterable[Transaction | Mark], name: bytes) -> list[bytes | None]:
    """What is sent, with this database's name. ``None``: a workflow is done."""
    found: list[bytes | None] = []
    for entry in entries:
        if entry is Mark.DONE:
            found.append(None)
        elif isinstance(entry, Transaction) and entry.statements:
            texts = [statement.sql.replace(*statement.rows, name) for statement in entry.statements]
            *first, last = BEGIN + texts[0], *texts[1:]
            found += [*first, last + LAST]
    return found


async def _replay(raw: Any, packets: Iterable[bytes | None]) -> list[float]:
    latencies = []
    began = time.perf_counter()
    for packet in packets:
        if packet is not None:
            await raw.query(packet)
            while raw._result.has_next:
                await raw.next_result()
        else:
            now = time.perf_counter()
            latencies.append(now - began)
            began = now
    return latencies


def _recorder(plain: Any, tape: Tape) -> dict[str, Any]:
    """The methods of a connection that notes what changed rows. ``rows`` of a statement: the database's name in it."""

    async def query(self: Any, sql: Any, unbuffered: bool = False) -> Any:
        self.pending, self.counts = sql, []
        found = await plain.query(self, sql, unbuffered)
        _answered(self, tape)
        return found

    async def next_result(self: Any, *args: Any) -> Any:
        found = await plain.next_result(self, *args)
        _answered(self, tape)
        return found

    return {"query": query, "next_result": next_result, "__module__": plain.__module__}


def _answered(connection: Any, tape: Tape) -> None:
    """If this is the last result of what was sent, note it. What failed is not noted; a rollback follows it."""
    connection.counts.append(connection._result.affected_rows)
    if connection._result.has_next or not isinstance(connection.pending, bytes):
        return
    sent, counts = connection.pending, connection.counts
    if sent.startswith(BEGIN):
        connection.noted, sent, counts = [], sent.removeprefix(BEGIN), counts[1:]
    if sent.endswith(LAST):  # the commit came in the packet of the rows
        connection.noted.append(_changed(sent.removesuffix(LAST), counts[:-1]))
        sent = b"COMMIT"
    noted: list[Statement] | None = getattr(connection, "noted", None)
    if sent in (b"ROLLBACK", b"COMMIT"):
        connection.noted = None
        if sent == b"COMMIT":
            tape.entries.append(Transaction(statements=noted or []))
    elif (found := _CHANGE.findall(sent)) and any(counts):
        statement = _statement(found, sent, counts)
        if noted is None:
            tape.entries.append(Transaction(statements=[statement]))
        else:
            noted.append(statement)


def _changed(sent: bytes, counts: list[int]) -> Statement:
    return _statement(_CHANGE.findall(sent), sent, counts)


def _statement(found: list[tuple[bytes, bytes, bytes]], sent: bytes, counts: list[int]) -> Statement:
    names = [f"{verb.decode().lower()} {table.decode()}" for verb, _, table in found]
    return Statement(sql=sent, rows=[found[0][1]], changed=dict(zip(names, counts, strict=True)))
