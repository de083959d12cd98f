"""Side effects: a small function that is run once, and whose value is recorded."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TypeVar

from durable.core import guards
from durable.core.commands import RecordSideEffect
from durable.core.context import current_run
from durable.core.signature import CallSignature

T = TypeVar("T")


def side_effect(fn: Callable[[], T]) -> T:
    """Run ``fn()`` now and record its value; on replay the recorded value comes back and ``fn`` is not run.

    For what is quick and cannot fail (a random number, a look at the environment). It may run again if the worker
    dies before the step is written. The value is encoded as the annotation of what ``fn`` returns, else as plain JSON.
    Raises `PayloadError`, and what ``fn`` raises.
    """
    run = current_run("durable.side_effect()")
    if inspect.iscoroutinefunction(fn):
        raise TypeError("durable.side_effect() takes a plain function: for I/O use an activity")
    number = run.number()
    what = f"value of side effect {getattr(fn, '__name__', 'function')!r}"
    annotation = CallSignature(fn).result
    payload = run.recorded_value(number)
    if payload is None:
        with guards.lifted():
            value = fn()
        payload = run.converter.encode(value, annotation, what)
    run.issue(RecordSideEffect(number=number, value=payload), number)
    decoded: T = run.converter.decode(payload, annotation, what)
    return decoded
