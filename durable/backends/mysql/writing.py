"""Rows that are written: from `Write` to statements that the server takes, and from its answers to counts."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from durable.backends.mysql.driver import Result
from durable.backends.mysql.literals import json_row, row
from durable.backends.mysql.statements import Statements
from durable.backends.sql.server.session import Culprit, Write

_FIRST_NUMBER = re.compile(r"\d+")
_ROOM = 16 * 1024
"""Bytes of a statement that are not its rows, at most."""


class Piece(NamedTuple):
    """A statement: (a part of) the write of this number among those that were asked for."""

    number: int
    write: Write
    rows: int
    statement: bytes


def pieces_of(statements: Statements, writes: Sequence[Write], max_packet: int) -> Iterator[Piece]:
    """Statements, each small enough for a packet if a row is. Raises ``ValueError`` for values that cannot be kept."""
    for number, write in enumerate(writes):
        before, after = _frame(statements, write)
        made = row if write.what == "insert" else json_row
        for some in _cut(map(made, write.rows), max_packet - _ROOM):
            yield Piece(number, write, len(some), b"%b%b%b" % (before, b",".join(some), after))


def _frame(statements: Statements, write: Write) -> tuple[bytes, bytes]:
    match write.what:
        case "insert":
            return statements.insert(write.table, write.columns, if_absent=write.if_absent), b""
        case "update":
            return statements.update(write.table, write.columns)
        case "delete":
            return statements.delete(write.table, write.columns)


def _cut(rows: Iterable[bytes], most: int) -> Iterator[list[bytes]]:
    some: list[bytes] = []
    size = 0
    for one in rows:
        if some and size + len(one) > most:
            yield some
            some, size = [], 0
        some.append(one)
        size += len(one) + 1
    if some:
        yield some


def packets_of(pieces: Iterable[Piece], max_packet: int) -> Iterator[list[Piece]]:
    """Statements that go out together."""
    some: list[Piece] = []
    size = 0
    for piece in pieces:
        if some and size + len(piece.statement) > max_packet - _ROOM:
            yield some
            some, size = [], 0
        some.append(piece)
        size += len(piece.statement) + 1
    if some:
        yield some


def counted(piece: Piece, result: Result) -> int:
    """How many rows were inserted, found, deleted.

    ``INSERT IGNORE`` leaves what is there, which we want, and cuts what is too long, which is an error.
    """
    if piece.write.what == "update":
        return matched(result)
    if piece.write.if_absent and result.warnings > piece.rows - result.affected:
        raise Culprit(f"{result.warnings} of {piece.rows} rows do not fit into {piece.write.table.name}")
    return result.affected


def matched(result: Result) -> int:
    """How many rows an ``UPDATE`` has found, from the server's remark (in any language: the first number)."""
    found = _FIRST_NUMBER.search(result.note)
    return result.affected if found is None else int(found.group())
