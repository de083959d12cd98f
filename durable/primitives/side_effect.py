"""Side effects: a small function that is run once, and whose value is recorded."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TypeVar

from durable.core import guards
from durable.core.commands import RecordSideEffect
from durable.core.context import RunContext, current_run
from durable.core.failure import failure_of
from durable.core.signature import CallSignature

T = TypeVar("T")


def side_effect(fn: Callable[[], T]) -> T:
    """Run ``fn()`` now and record its value; on replay the recorded value comes back and ``fn`` is not run.

    For what is quick and cannot fail (a random number, a look at the environment). It may run again if the worker
    dies before the step is written. The value is encoded as the annotation of what ``fn`` returns, else as plain JSON.
    Raises `PayloadError`, `PayloadTooLarge`, and what ``fn`` raises: that is recorded too.
    """
    run = current_run("durable.side_effect()")
    if inspect.iscoroutinefunction(fn):
        raise TypeError("durable.side_effect() takes a plain function: for I/O use an activity")
    number = run.number()
    what = f"value of side effect {getattr(fn, '__name__', 'function')!r}"
    annotation = CallSignature(fn).result
    recorded = run.recorded_side_effect(number)
    if recorded is None:
        value, failure = _run_now(run, number, lambda: run.converter.encode(_called(fn), annotation, what))
    else:
        value, failure = recorded.value, recorded.failure
        _record(run, number, value, failure)
    if failure is not None:
        raise run.rebuilt(failure)
    decoded: T = run.converter.decode(value, annotation, what)
    return decoded


def _called(fn: Callable[[], T]) -> T:
    with guards.lifted():
        return fn()


def _run_now(run: RunContext, number: int, make: Callable[[], str]) -> tuple[str, str | None]:
    try:
        value = make()
        _record(run, number, value, None)
    except (MemoryError, RecursionError):
        raise  # the process's, not the function's
    except Exception as error:
        # Without a record of it, a workflow that goes on could not be replayed.
        failure = run.converter.seal(failure_of(error).to_text())
        _record(run, number, "", failure)
        return "", failure
    return value, None


def _record(run: RunContext, number: int, value: str, failure: str | None) -> None:
    command = RecordSideEffect(number=number, value=value, failure=failure)
    run.issue(command, number, anyway=failure is not None)
