"""Names that were bound to a function before its guard was installed (``from time import time``): bound anew.

Goes once through the modules that are loaded when the guards are installed, which is before the first run. It looks at
what a module binds by name: its globals, the attributes of its classes, and the defaults and closures of its functions
(a dataclass keeps ``default_factory`` in one); and one level deeper in a global that is a small list or dict, a
``partial``, or an object with attributes (``service = Service(clock=time.time)``). What sits deeper, in a tuple or set,
or in an object of C (a pydantic field) is not found. The standard library's own modules keep what they have: they wait
with real clocks.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import partial
from types import BuiltinFunctionType, CellType, FunctionType, MethodType, ModuleType
from typing import Any

Guard = Callable[[Any], Any]
"""The guard for a value, or None for a value that has none."""

_FUNCTIONS = (BuiltinFunctionType, FunctionType, MethodType)
_NO_SERVICES = frozenset({"builtins", "types", "typing"})
MOST_ITEMS = 100
"""Larger ones are data."""
_OURS = __name__.partition(".")[0]


def rebind(guard_of: Guard) -> None:
    """Replace what ``guard_of`` knows a guard for, wherever a loaded module names it."""
    for module in list(sys.modules.values()):
        if isinstance(module, ModuleType) and _is_user_code(module):
            _in_module(module, guard_of)


def _is_user_code(module: ModuleType) -> bool:
    name = object.__getattribute__(module, "__dict__").get("__name__")
    if not isinstance(name, str):
        return False
    top = name.partition(".")[0]
    return top != _OURS and (top not in sys.stdlib_module_names or name == "__main__")


def _in_module(module: ModuleType, guard_of: Guard) -> None:
    # Not vars(): a module that loads itself lazily would do so.
    names: dict[str, Any] = object.__getattribute__(module, "__dict__")
    for name, value in list(names.items()):
        guard = _guarded(value, guard_of)
        if guard is not None:
            names[name] = guard
        elif _defined_in(value, names):
            _in_definition(value, guard_of)
        else:
            _in_object(value, guard_of)


def _in_object(value: Any, guard_of: Guard) -> None:
    kind = type(value)
    if kind is list:
        _in_items(value, enumerate(value), guard_of)
    elif kind is dict:
        _in_items(value, value.items(), guard_of)
    elif kind is partial:
        if (guard := _guarded(value.func, guard_of)) is not None:
            value.__setstate__((guard, value.args, value.keywords, vars(value)))
    elif kind.__module__ not in _NO_SERVICES:
        with suppress(Exception):  # not vars(), and whatever it is: it is somebody else's
            attributes = object.__getattribute__(value, "__dict__")
            if type(attributes) is dict:
                _in_items(attributes, attributes.items(), guard_of)


def _in_items(holder: Any, items: Iterable[tuple[Any, Any]], guard_of: Guard) -> None:
    if len(holder) > MOST_ITEMS:
        return
    for key, value in list(items):
        if (guard := _guarded(value, guard_of)) is not None:
            holder[key] = guard


def _guarded(value: Any, guard_of: Guard) -> Any:
    return guard_of(value) if type(value) in _FUNCTIONS else None


def _defined_in(value: Any, names: dict[str, Any]) -> bool:
    # Not isinstance(): a proxy would load what it stands for, to say what it is.
    return (
        issubclass(type(value), type | FunctionType)
        and getattr(value, "__module__", None) == names["__name__"]
    )


def _in_definition(value: Any, guard_of: Guard) -> None:
    if isinstance(value, FunctionType):
        _in_function(value, guard_of)
    else:
        _in_class(value, guard_of)


def _in_class(cls: type, guard_of: Guard) -> None:
    for name, value in list(cls.__dict__.items()):
        inner = value.__func__ if isinstance(value, staticmethod | classmethod) else value
        guard = _guarded(inner, guard_of)
        if guard is not None:
            # A guard is a function, and would be bound to the instance where the built-in was not.
            with suppress(AttributeError, TypeError):
                type.__setattr__(cls, name, guard if type(value) is FunctionType else staticmethod(guard))
        elif isinstance(inner, FunctionType):
            _in_function(inner, guard_of)


def _in_function(function: FunctionType, guard_of: Guard) -> None:
    defaults = function.__defaults__
    if defaults and any(_guarded(value, guard_of) is not None for value in defaults):
        function.__defaults__ = tuple(_guarded(value, guard_of) or value for value in defaults)
    for name, value in list((function.__kwdefaults__ or {}).items()):
        if (guard := _guarded(value, guard_of)) is not None:
            function.__kwdefaults__[name] = guard  # type: ignore[index]
    for cell in _filled(function.__closure__ or ()):
        if (guard := _guarded(cell.cell_contents, guard_of)) is not None:
            cell.cell_contents = guard


def _filled(cells: tuple[CellType, ...]) -> Iterator[CellType]:
    for cell in cells:
        with suppress(ValueError):
            cell.cell_contents  # noqa: B018 - an empty cell raises
            yield cell
