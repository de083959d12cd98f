"""`dataclass` for the records that are made dozens of times for each workflow: frozen for whoever checks types only.

A frozen dataclass sets each field through ``object.__setattr__``, which makes it four times as slow to build (measured:
1.8 µs instead of 0.5 with 14 fields; over a tenth of what a worker's loop does). mypy and pyright see the decorator of
the standard library, and refuse an assignment to a field; at run time nothing stops it. Equality and hash are the same.

The handful that is made in every step is filled in field by field, beside the class: `blank` gives one without values.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

__all__ = ["NOTHING", "blank", "dataclass", "filled_tuple"]

blank: Callable[[type], Any] = object.__new__
"""A record without values. A class that is called with keywords makes a dictionary of them first: three times the work.
Whoever fills it in sets every field; a test compares it with one that was made the usual way.
"""

filled_tuple: Callable[[type, tuple[Any, ...]], Any] = tuple.__new__
"""A named tuple of these values. Its own constructor is a function in Python, which takes five times as long."""

NOTHING: Any = MappingProxyType({})
"""Stands where a dictionary will be made when there is something to put into it. Most runs never have."""

if TYPE_CHECKING:
    from dataclasses import dataclass
else:

    def dataclass(*, frozen: bool, **options: Any) -> Callable[[type], type]:
        """The decorator of `dataclasses`, with ``frozen`` taken for "hashable"."""
        return dataclasses.dataclass(unsafe_hash=frozen, **options)
