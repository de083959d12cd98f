"""Patches: which ``patched("...")`` a workflow's code knows, read from the code without running it.

A run remembers the patches that the code knew which began it; `durable.patched` answers from that for ever. To know
them before any of them is reached, the names are read from the byte code of the workflow and of the functions that it
can reach through its globals.
"""

from __future__ import annotations

import dis
import functools
from collections.abc import Callable, Iterator
from types import CodeType, ModuleType
from typing import Any

_MOST = 5_000


@functools.lru_cache(maxsize=1024)
def patches_of(fn: Callable[..., Any]) -> frozenset[str]:
    """The texts that ``patched`` is called with, in ``fn`` and in what is reachable from it."""
    return frozenset(
        name for code in _reachable(fn) if "patched" in code.co_names for name in _arguments(code)
    )


def names_in(fn: Callable[..., Any]) -> frozenset[str]:
    """The names of the functions that are nested in ``fn``, at any depth."""
    return frozenset(code.co_name for code in _nested(fn.__code__))


def _arguments(code: CodeType) -> Iterator[str]:
    """The text that is loaded right after each ``patched``."""
    called = False
    for instruction in dis.get_instructions(code):
        if instruction.argval == "patched" and instruction.opname.startswith("LOAD"):
            called = True
        elif called and instruction.opname == "LOAD_CONST":
            called = False
            if isinstance(instruction.argval, str):
                yield instruction.argval


def _nested(code: CodeType) -> Iterator[CodeType]:
    yield code
    for const in code.co_consts:
        if isinstance(const, CodeType):
            yield from _nested(const)


def _reachable(fn: Callable[..., Any]) -> Iterator[CodeType]:
    """The code of ``fn``, of what is nested in it, and of the functions that these name."""
    waiting: list[Any] = [fn]
    seen: set[int] = set()
    while waiting and len(seen) < _MOST:
        function = waiting.pop()
        code = getattr(function, "__code__", None)
        if code is None or id(code) in seen:
            continue
        seen.add(id(code))
        for nested in _nested(code):
            yield nested
            waiting += _named(nested, getattr(function, "__globals__", {}))
        for cell in getattr(function, "__closure__", None) or ():
            waiting += _functions_of(_content(cell), ())


def _named(code: CodeType, namespace: dict[str, Any]) -> Iterator[Any]:
    for name in code.co_names:
        if name in namespace:
            yield from _functions_of(namespace[name], code.co_names)


def _functions_of(value: Any, attributes: tuple[str, ...]) -> Iterator[Any]:
    """The functions behind a global: itself, a decorated one's, a class's methods, a module's named attributes."""
    if isinstance(value, ModuleType):
        if not value.__name__.startswith(("durable.", "asyncio")) and value.__name__ != "durable":
            for attribute in attributes:
                found = vars(value).get(attribute)
                if not isinstance(found, ModuleType):
                    yield from _functions_of(found, ())
        return
    if isinstance(value, type):
        yield from (method for method in vars(value).values() if hasattr(method, "__code__"))
        return
    definition = getattr(value, "definition", None)
    yield getattr(definition, "fn", value)


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not assigned yet
        return None
