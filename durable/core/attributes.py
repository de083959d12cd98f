"""What an exception carries: its arguments and attributes, as JSON.

There is no annotation to go by, so only a closed set of types is carried: plain JSON values, and the
immutable ones of the standard library that exceptions often hold (tuple, bytes, Decimal, UUID, dates and
times). The latter are written as ``{"$": "decimal", "value": "1.10"}``. The tag selects an entry of a table
here, never a class by name.

Payloads are another matter: they have annotations, and no tags.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

_TAG = "$"
_INT_BOUND = 10**4300
_MAX_NESTING = 20


class NotPortable(Exception):
    """A value, or a part of it, is of a type that is not carried."""


def to_portable(value: Any, levels: int = _MAX_NESTING) -> Any:
    """Plain JSON values that `from_portable` turns into an equal value. Raises `NotPortable`."""
    kind = type(value)
    if kind is str:
        return _without_surrogates(value)
    if value is None or kind is bool or (kind is float and math.isfinite(value)):
        return value
    if kind is int and -_INT_BOUND < value < _INT_BOUND:
        return value
    if levels <= 0:
        raise NotPortable
    if kind is list:
        return [to_portable(item, levels - 1) for item in value]
    if kind is tuple:
        return {_TAG: "tuple", "value": [to_portable(item, levels - 1) for item in value]}
    if kind is dict:
        return _dict_to_portable(value, levels - 1)
    return _tagged(value)


def from_portable(data: Any) -> Any:
    """The value that `to_portable` was given. Raises `NotPortable` for other data."""
    if isinstance(data, list):
        return [from_portable(item) for item in data]
    if not isinstance(data, dict):
        return data
    if _TAG not in data:
        return {key: from_portable(item) for key, item in data.items()}
    try:
        return _READERS[data[_TAG]](data["value"])
    except Exception as error:
        raise NotPortable from error


def _without_surrogates(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise NotPortable from None
    return text


def _dict_to_portable(value: dict[Any, Any], levels: int) -> dict[str, Any]:
    if not all(type(key) is str for key in value):
        raise NotPortable
    plain = {_without_surrogates(key): to_portable(item, levels) for key, item in value.items()}
    # A dict of the user's that looks like one of ours is wrapped, so that nothing is taken for a tag by
    # accident.
    return {_TAG: "dict", "value": plain} if _TAG in plain else plain


def _tagged(value: Any) -> dict[str, Any]:
    tag, write = _WRITERS.get(type(value), (None, None))
    if tag is None or write is None:
        raise NotPortable
    return {_TAG: tag, "value": write(value)}


def _clock_time(value: datetime | time) -> list[Any]:
    # Only a fixed offset survives `isoformat`; a time of day in a zone with a changing one would lose it.
    if value.tzinfo is not None and value.utcoffset() is None:
        raise NotPortable
    return [value.isoformat(), value.fold]


def _read_timedelta(parts: Any) -> timedelta:
    days, seconds, microseconds = parts
    return timedelta(days=days, seconds=seconds, microseconds=microseconds)


_WRITERS: dict[type, tuple[str, Callable[[Any], Any]]] = {
    float: ("float", repr),  # NaN and the infinities: the others have been taken care of
    bytes: ("bytes", lambda value: base64.b64encode(value).decode()),
    Decimal: ("decimal", str),
    UUID: ("uuid", str),
    datetime: ("datetime", _clock_time),
    date: ("date", date.isoformat),
    time: ("time", _clock_time),
    timedelta: ("timedelta", lambda value: [value.days, value.seconds, value.microseconds]),
}
_READERS: dict[str, Callable[[Any], Any]] = {
    "tuple": lambda items: tuple(from_portable(item) for item in items),
    "dict": lambda items: {key: from_portable(item) for key, item in items.items()},
    "float": float,
    "bytes": lambda text: base64.b64decode(text, validate=True),
    "decimal": Decimal,
    "uuid": UUID,
    "datetime": lambda parts: datetime.fromisoformat(parts[0]).replace(fold=parts[1]),
    "date": date.fromisoformat,
    "time": lambda parts: time.fromisoformat(parts[0]).replace(fold=parts[1]),
    "timedelta": _read_timedelta,
}
