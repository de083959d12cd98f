"""Is what came back the same? Equality that also compares types, part by part, and can say where two values
differ.

Python's ``==`` is no use for this: it takes True for 1, a subclass for its base, and NaN for different from
itself. The rules are listed in `durable.core.payload`, whose check at the door this is. Differences are told
by place and type, never by value, since values may be secrets. Nothing here knows about JSON text.
"""

from __future__ import annotations

import dataclasses
import math
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime, time
from decimal import Decimal
from enum import Enum
from typing import Any

from pydantic import BaseModel

# Longer integers can be written, but nobody would read them again: Python's limit, and pydantic's.
_INT_BOUND = 10**4300
_SCALARS = frozenset({str, int, bool, type(None), bytes})
_BULK = _SCALARS | {float}
_CHANGED = ": it comes back with another value"
_UNPLAIN = (
    "no plain JSON value; only None, bool, int, float, str, list and dict with str keys need no annotation"
)

# What a rule gives is "<path>: <what is wrong>" or None. The path is put together on the way back, for free
# if all is well. The number is how many more levels of nesting are allowed.
_Rule = Callable[[Any, Any, int], str | None]


class TooDeep(Exception):
    """A value is nested deeper than allowed."""


def difference(given: Any, back: Any, max_nesting: int) -> str | None:
    """Where and how ``back`` differs from ``given`` (``"at .items[2]: bool comes back as int"``); None if the
    same.

    Raises `TooDeep`, and whatever an ``__eq__`` of a user's class raises.
    """
    return _placed(_difference(given, back, max_nesting))


def plain_difference(value: Any, max_nesting: int) -> str | None:
    """Where and how ``value`` is not made of plain JSON values only; None if it is. Raises `TooDeep`."""
    return _placed(_unplain(value, max_nesting))


def _placed(finding: str | None) -> str | None:
    if finding is None:
        return None
    return finding[2:] if finding.startswith(": ") else f"at {finding}"


def _unplain(value: Any, levels: int) -> str | None:
    kind = type(value)
    if kind is str or kind is float or kind is bool or value is None:
        return None
    if kind is int:
        return None if -_INT_BOUND < value < _INT_BOUND else ": an integer of more than 4300 digits"
    if kind is not list and kind is not dict:
        return f": {kind.__qualname__} is {_UNPLAIN}: annotate it with its type"
    _check(levels)
    return _unplain_list(value, levels - 1) if kind is list else _unplain_dict(value, levels - 1)


def _unplain_list(value: list[Any], levels: int) -> str | None:
    for index, item in enumerate(value):
        if (found := _unplain(item, levels)) is not None:
            return f"[{index}]{found}"
    return None


def _unplain_dict(value: dict[Any, Any], levels: int) -> str | None:
    for key, item in value.items():
        if type(key) is not str:
            return (
                f": dict with a key of type {type(key).__qualname__} is {_UNPLAIN}: annotate it with its type"
            )
        if (found := _unplain(item, levels)) is not None:
            return f"[{key[:100]!r}]{found}"
    return None


def _check(levels: int) -> None:
    if levels <= 0:
        raise TooDeep("it is nested too deeply")


def _difference(a: Any, b: Any, levels: int) -> str | None:
    kind = type(a)
    if kind is not type(b):
        return _other_type(a, b, levels)
    if kind in _SCALARS:
        return None if a == b else _CHANGED
    return (_RULES.get(kind) or _rule_of(kind))(a, b, levels)


def _other_type(a: Any, b: Any, levels: int) -> str | None:
    """The two pairs of types that may differ: an exact int as a float, a generic model with and without
    arguments.
    """
    if type(a) is int and type(b) is float:
        return None if a == b else ": an int that no float is equal to"
    if isinstance(a, BaseModel) and isinstance(b, BaseModel) and _origin(a) is _origin(b):
        return _models(a, b, levels)
    given, back = type(a).__qualname__, type(b).__qualname__
    if isinstance(a, type(b)):
        return f": {given} comes back as its base {back}, without what it adds; annotate it as {given}"
    return f": {given} comes back as {back}; annotate it with its type"


def _origin(model: BaseModel) -> type:
    origin = type(model).__pydantic_generic_metadata__["origin"]
    return origin or type(model)


def _floats(a: float, b: float, _levels: int) -> str | None:
    same = (a == b and math.copysign(1, a) == math.copysign(1, b)) or (math.isnan(a) and math.isnan(b))
    return None if same else _CHANGED


def _decimals(a: Decimal, b: Decimal, _levels: int) -> str | None:
    return None if a.as_tuple() == b.as_tuple() else _CHANGED


def _enums(a: Enum, b: Enum, _levels: int) -> str | None:
    # An Enum may have NaN as its value, or an __eq__ of its own; identity is what makes a member.
    return None if a is b or a == b else _CHANGED


def _times(a: datetime | time, b: datetime | time, _levels: int) -> str | None:
    offset = a.utcoffset()
    if offset != b.utcoffset() or a.replace(tzinfo=None) != b.replace(tzinfo=None):
        return _CHANGED
    # A time of day under a zone with changing offsets has none: nothing could come back in its place.
    return None if (a.tzinfo is None) == (b.tzinfo is None) else ": its time zone is lost; use a fixed offset"


def _sequences(a: Sequence[Any], b: Sequence[Any], levels: int) -> str | None:
    _check(levels)
    if len(a) != len(b):
        return f": {len(a)} items come back as {len(b)}"
    if _same_in_bulk(a, b):
        return None
    for index, (x, y) in enumerate(zip(a, b, strict=True)):
        if (found := _difference(x, y, levels - 1)) is not None:
            return f"[{index}]{found}"
    return None


def _same_in_bulk(a: Sequence[Any], b: Sequence[Any]) -> bool:
    """Compares lists of scalars in C: they are often long, and this is twenty times cheaper."""
    kinds = [*map(type, a)]
    if not _BULK.issuperset(kinds) or kinds != [*map(type, b)] or [*a] != [*b]:
        return False
    return float not in kinds or 0.0 not in a  # zeros have a sign, which == does not see


def _mappings(a: Mapping[Any, Any], b: Mapping[Any, Any], levels: int) -> str | None:
    _check(levels)
    if len(a) != len(b):
        return f": {len(a)} keys come back as {len(b)}"
    for (key, x), (back_key, y) in zip(a.items(), b.items(), strict=True):
        if _difference(key, back_key, levels - 1) is not None:
            return _unordered_mappings(a, b, levels)
        if (found := _difference(x, y, levels - 1)) is not None:
            return f"[{_shown(key)}]{found}"
    return None


def _unordered_mappings(a: Mapping[Any, Any], b: Mapping[Any, Any], levels: int) -> str | None:
    back_keys = {key: key for key in b}
    for key, x in a.items():
        if key not in back_keys:
            return f": the key {_shown(key)} does not come back"
        if (found := _difference(key, back_keys[key], levels - 1)) is not None:
            return f": key {_shown(key)}{found}"
        if (found := _difference(x, b[key], levels - 1)) is not None:
            return f"[{_shown(key)}]{found}"
    return None


def _ordered_dicts(a: OrderedDict[Any, Any], b: OrderedDict[Any, Any], levels: int) -> str | None:
    found = _sequences([*a], [*b], levels)
    return _mappings(a, b, levels) if found is None else f": keys{found}"


def _shown(key: Any) -> str:
    """A key as part of a path. Long integers have no decimal text: Python refuses to write it."""
    if type(key) is str:
        return repr(key[:100])
    return repr(key) if type(key) is int and key.bit_length() < 100 else type(key).__qualname__


def _sets(a: Collection[Any], b: Collection[Any], levels: int) -> str | None:
    _check(levels)
    if len(a) != len(b):
        return f": {len(a)} items come back as {len(b)}"
    back = {item: item for item in b}
    strangers: list[Any] = []
    for item in a:
        if item not in back:
            strangers.append(item)
        elif (found := _difference(item, back.pop(item), levels - 1)) is not None:
            return f": an item{found}"
    # Only NaN (or what holds one) is equal and yet not found by its hash.
    return _paired(strangers, [*back], levels - 1)


def _paired(a: list[Any], b: list[Any], levels: int) -> str | None:
    for x in a:
        match = next((index for index, y in enumerate(b) if _difference(x, y, levels) is None), None)
        if match is None:
            return f": an item of type {type(x).__qualname__} does not come back"
        del b[match]
    return None


def _models(a: BaseModel, b: BaseModel, levels: int) -> str | None:
    _check(levels)
    given, back = a.__dict__, b.__dict__
    for name in type(a).__pydantic_fields__:
        if (found := _difference(given.get(name), back.get(name), levels - 1)) is not None:
            return f".{name}{found}"
    found = _difference(a.__pydantic_extra__, b.__pydantic_extra__, levels)
    if found is not None:
        return f": extra fields{found}"
    found = _difference(a.__pydantic_private__, b.__pydantic_private__, levels)
    return None if found is None else f": private attributes{found}"


def _others(a: Any, b: Any, _levels: int) -> str | None:
    if a == b:
        return None
    if _equality(type(a)) is _equality(object):
        return f": {type(a).__qualname__} has no __eq__, so nobody can tell whether the same comes back"
    return _CHANGED


def _equality(kind: type) -> Any:
    return kind.__eq__


def _dataclass_rule(kind: Any) -> _Rule:
    names = [each.name for each in dataclasses.fields(kind) if each.init or each.compare]
    missing = object()

    def compare(a: Any, b: Any, levels: int) -> str | None:
        _check(levels)
        for name in names:
            if (
                found := _difference(getattr(a, name, missing), getattr(b, name, missing), levels - 1)
            ) is not None:
                return f".{name}{found}"
        return None

    return compare


_RULES: dict[type, _Rule] = {
    float: _floats,
    Decimal: _decimals,
    datetime: _times,
    time: _times,
    list: _sequences,
    tuple: _sequences,
    deque: _sequences,
    dict: _mappings,
    defaultdict: _mappings,
    OrderedDict: _ordered_dicts,
    set: _sets,
    frozenset: _sets,
}
_BASE_RULES: tuple[tuple[type, _Rule], ...] = (
    (BaseModel, _models),
    (Enum, _enums),
    (tuple, _sequences),  # named tuples
    (list, _sequences),
    (dict, _mappings),
)


def _rule_of(kind: type) -> _Rule:
    if dataclasses.is_dataclass(kind):
        rule = _dataclass_rule(kind)
    else:
        rule = next((rule for base, rule in _BASE_RULES if issubclass(kind, base)), _others)
    # Only dataclasses are worth remembering, and classes made on the fly must not pile up.
    if len(_RULES) < 4096:
        _RULES[kind] = rule
    return rule
