"""Queries and updates: functions nested in a workflow that answer callers while it runs."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Generic, ParamSpec, TypeVar, overload

from durable.core.context import Handler, RunContext, current_run
from durable.core.signature import CallSignature

P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)
F = TypeVar("F", bound=Callable[..., Any])


@overload
def query(fn: F, /) -> F: ...


@overload
def query(*, name: str | None = None) -> Callable[[F], F]: ...


def query(fn: Any = None, /, *, name: str | None = None) -> Any:
    """Answer ``await instance.query(name, *args)`` with this plain function, which may look and not touch.

    To be used inside a workflow. Raises `TypeError` for an ``async def`` function.
    """
    if fn is None:
        return lambda function: query_of(function, name)
    return query_of(fn, name)


def query_of(fn: F, name: str | None) -> F:
    """Offer ``fn`` as a query of the current run."""
    run = current_run("@durable.query")
    if not inspect.isfunction(fn) or inspect.iscoroutinefunction(fn):
        raise TypeError(f"a query is a plain def function that returns at once, not {fn!r}")
    found = name or fn.__name__
    run.define_query(found, Handler(fn=fn, signature=CallSignature(fn, name=found)))
    return fn


class Update(Generic[P, R_co]):
    """A function that callers may run inside the workflow; `validator` adds a check that comes first."""

    def __init__(self, run: RunContext, name: str, fn: Callable[P, R_co]) -> None:
        self._run = run
        self._name = name
        self._fn = fn
        run.define_update(name, Handler(fn=fn, signature=CallSignature(fn, name=name)))
        if run.on_update_defined is not None:
            run.on_update_defined(name)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        return self._fn(*args, **kwargs)

    def validator(self, fn: F) -> F:
        """Ask ``fn`` with the update's arguments first; what it raises rejects the update. It may only look."""
        if not inspect.isfunction(fn) or inspect.iscoroutinefunction(fn):
            raise TypeError(f"a validator is a plain def function, not {fn!r}")
        self._run.define_update(self._name, replace(self._run.updates[self._name], validator=fn))
        return fn


@overload
def update(fn: Callable[P, R], /) -> Update[P, R]: ...


@overload
def update(*, name: str | None = None) -> Callable[[Callable[P, R]], Update[P, R]]: ...


def update(fn: Any = None, /, *, name: str | None = None) -> Any:
    """Answer ``await instance.update(name, *args)`` with this function (``def`` or ``async def``), a task of the run.

    To be used inside a workflow; it may await activities and change the workflow's state.
    """
    if fn is None:
        return lambda function: update_of(function, name)
    return update_of(fn, name)


def update_of(fn: Callable[P, R], name: str | None) -> Update[P, R]:
    """Offer ``fn`` as an update of the current run."""
    run = current_run("@durable.update")
    run.check_open()
    if not inspect.isfunction(fn):
        raise TypeError(f"an update is a function, not {fn!r}")
    return Update(run, name or fn.__name__, fn)
