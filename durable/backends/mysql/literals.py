"""Values as SQL. Both drivers put values into the text of a statement, each a little differently; so we do it once.

A statement is bytes in UTF-8. Texts have backslash escapes, which is right because every connection has our
``sql_mode`` (`borrowing` lends it to connections that are not ours), and because no byte of a character of more than
one byte looks like a quote or a backslash. A text that has no UTF-8 (a lone surrogate) and a number that is no 64-bit
integer raise ``ValueError``: they are the mistake of one item.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import orjson

_LEAST, _MOST = -(2**63), 2**63 - 1


def literal(value: Any) -> bytes:
    """One value: ``None``, an integer (or truth value), a text, bytes."""
    if value is None:
        return b"NULL"
    if isinstance(value, str):
        return b"'%b'" % _escaped(value.encode())
    if isinstance(value, int):
        return _number(int(value))
    if isinstance(value, bytes):
        return b"_binary'%b'" % _escaped(value)
    raise TypeError(f"{type(value).__name__} has no SQL literal here")


def _escaped(raw: bytes) -> bytes:
    return raw.replace(b"\\", b"\\\\").replace(b"'", b"\\'").replace(b"\0", b"\\0")


def _number(value: int) -> bytes:
    if not _LEAST <= value <= _MOST:
        raise ValueError(f"{value} is out of the range of a 64-bit integer")
    return b"%d" % value


def row(values: Sequence[Any]) -> bytes:
    """``(1,'a')``."""
    return b"(%b)" % b",".join([literal(value) for value in values])


def json_rows(rows: Iterable[Sequence[Any]]) -> bytes:
    """Rows of texts and numbers for ``JSON_TABLE``, as a literal."""
    return b"'[%b]'" % b",".join(map(json_row, rows))


def json_row(values: Sequence[Any]) -> bytes:
    """One of them, without quotes around it."""
    for value in values:
        if type(value) is int and not _LEAST <= value <= _MOST:
            _number(value)  # raises; JSON_TABLE would take the largest number that there is
    try:
        return _escaped(orjson.dumps([*values]))
    except TypeError as error:  # a lone surrogate, or a number of more than 64 bits
        raise ValueError(str(error)) from error


def name(text: str) -> str:
    """The name of a database, table or column."""
    return f"`{text.replace('`', '``')}`"
