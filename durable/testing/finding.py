"""Finding definitions: the workflows and activities that a workflow's own code names, by way of objects too."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator
from types import ModuleType
from typing import Any

from durable.primitives.activity import Activity
from durable.primitives.workflow import Workflow

Definition = Workflow[Any, Any] | Activity[Any, Any]


def named_by(workflow: Workflow[..., Any]) -> list[Definition]:
    """The workflow and what its code names, what that names, and so on; of a module it names, everything in it."""
    found: list[Definition] = []
    waiting: list[Definition] = [workflow]
    seen: set[int] = set()
    while waiting:
        one = waiting.pop()
        if id(one.definition.fn) in seen:
            continue
        seen.add(id(one.definition.fn))
        found.append(one)
        if isinstance(one, Workflow):
            waiting += _definitions(_named(one.definition.fn, set()))
    return found


def in_module(module: ModuleType) -> list[Definition]:
    """The definitions that a module holds."""
    return list(_definitions(vars(module).values()))


def _definitions(values: Iterable[object]) -> Iterator[Definition]:
    for value in values:
        if isinstance(value, Activity | Workflow):
            yield value
        elif isinstance(value, ModuleType) and value.__name__.partition(".")[0] != "durable":
            yield from (one for one in vars(value).values() if isinstance(one, Activity | Workflow))
        elif not isinstance(value, type):
            of_class = {
                name: one for base in reversed(type(value).__mro__) for name, one in vars(base).items()
            }
            yield from (getattr(value, name) for name, one in of_class.items() if isinstance(one, Activity))


def _named(fn: Any, seen: set[int]) -> Iterator[object]:
    """What a function's code names, through plain functions of its own package too."""
    fn = inspect.unwrap(getattr(fn, "__func__", fn))
    if id(fn) in seen or not inspect.isfunction(fn):
        return
    seen.add(id(fn))
    names = inspect.getclosurevars(fn)
    package = (fn.__module__ or "").partition(".")[0]
    for value in [*names.globals.values(), *names.nonlocals.values()]:
        yield value
        if inspect.isfunction(value) and (value.__module__ or "").partition(".")[0] == package:
            yield from _named(value, seen)
