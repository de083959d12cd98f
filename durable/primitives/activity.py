"""Activities: functions that may do I/O. Calling one in a workflow schedules it; anywhere else it is the function."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import replace
from datetime import timedelta
from typing import Any, Concatenate, Generic, ParamSpec, TypedDict, TypeVar, Unpack, overload

from durable.core.commands import CancelActivity, schedule_activity
from durable.core.context import RunContext, Site, run_or_none
from durable.core.definition import ActivityDefinition, ActivityOptions, Executor
from durable.core.hooks import with_headers
from durable.core.ids import check_id
from durable.core.payload import Converter
from durable.core.retry import Retry, seconds
from durable.core.signature import CallSignature

P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


class ActivityKeywords(TypedDict, total=False):
    """The keywords of ``@durable.activity`` and of ``.options``. Times are seconds or ``timedelta``."""

    name: str
    retry: Retry
    timeout: float | timedelta | None
    queue_timeout: float | timedelta | None
    heartbeat_timeout: float | timedelta | None
    queue: str | None
    at_most_once: bool
    executor: Executor


class Activity(Generic[P, R_co]):
    """A decorated function. `definition` is what workers register."""

    def __init__(self, definition: ActivityDefinition) -> None:
        self.definition = definition
        self._what = f"activity {definition.name!r}"
        self._what_result = f"result of {self._what}"
        self._options_text = definition.options.to_text()
        limit = definition.options.queue_timeout_seconds
        self._queue_timeout_us = None if limit is None else round(limit * 1e6)
        self._decoding: tuple[Converter, Callable[[str], Any]] | None = None
        functools.update_wrapper(self, definition.fn, updated=())

    def __repr__(self) -> str:
        return f"<activity {self.definition.name!r}>"

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[None, None, R_co]:
        """In a workflow: a coroutine that schedules the activity when it is first awaited, and gives its result.

        Raises `TypeError` at once for arguments that do not fit; awaiting raises `PayloadError`, what the activity
        raised, `ActivityTimeout` or `WorkerLost`. Elsewhere it calls the function.
        """
        run = run_or_none()
        if run is None:
            called: Coroutine[None, None, R_co] = self.definition.fn(*args, **kwargs)
            return called
        self.definition.signature.bind(args, kwargs)
        return self._scheduled(run, args, kwargs, None if run.sites is None else run.site())

    @overload
    def __get__(self, instance: None, owner: type[Any]) -> Activity[P, R_co]: ...

    @overload
    def __get__(
        self: Activity[Concatenate[Any, Q], R_co], instance: object, owner: type[Any]
    ) -> Activity[Q, R_co]: ...

    def __get__(self, instance: object | None, owner: type[Any]) -> Activity[Any, R_co]:
        """``shop.charge`` is the activity of that very ``shop``."""
        if instance is None:
            return self
        bound = self.definition.fn.__get__(instance, owner)
        return Activity(
            replace(self.definition, fn=bound, signature=CallSignature(bound, name=self.definition.name))
        )

    def options(self, **keywords: Unpack[ActivityKeywords]) -> Activity[P, R_co]:
        """A copy with other options: ``await charge.options(queue="eu", timeout=5)(order)``."""
        return Activity(_with(self.definition, keywords))

    async def _scheduled(
        self, run: RunContext, args: tuple[Any, ...], kwargs: dict[str, Any], called: Site | None
    ) -> R_co:
        definition = self.definition
        payload = run.converter.encode_bound_args(definition.signature, args, kwargs, self._what)
        number, headers = run.number(called), run.headers
        run.issue(
            schedule_activity(
                number,
                definition.name,
                payload,
                definition.options.queue or run.queue,
                with_headers(self._options_text, headers) if headers else self._options_text,
                self._queue_timeout_us,
            ),
            number,
        )
        future = run.wait_for(number, self._decoder(run.converter))
        try:
            result: R_co = await future
        except asyncio.CancelledError:
            run.withdraw(number, CancelActivity(number=number))
            raise
        return result

    def _decoder(self, converter: Converter) -> Callable[[str], Any]:
        """From a payload to the result. Kept, for there are a thousand calls to a converter."""
        if self._decoding is None or self._decoding[0] is not converter:
            signature, what = self.definition.signature, self._what_result
            self._decoding = (
                converter,
                lambda payload: converter.decode_result(payload, signature, what),
            )
        return self._decoding[1]


@overload
def activity(fn: Callable[P, Awaitable[R]], /) -> Activity[P, R]: ...


@overload
def activity(fn: Callable[P, R], /) -> Activity[P, R]: ...


@overload
def activity(**keywords: Unpack[ActivityKeywords]) -> _Decorator: ...


def activity(fn: Callable[..., Any] | None = None, /, **keywords: Unpack[ActivityKeywords]) -> Any:
    """Make a function an activity: ``@durable.activity`` or ``@durable.activity(name=, retry=, timeout=, ...)``.

    ``async def`` runs on the worker's loop; a plain ``def`` in a thread, or with ``executor="process"`` in a process.
    ``timeout`` limits one attempt, ``queue_timeout`` the wait for a worker, ``heartbeat_timeout`` silence between
    heartbeats (seconds or ``timedelta``; default: no limit). ``queue`` defaults to the caller's. ``at_most_once`` never
    starts it a second time because its worker was lost.

    Raises `TypeError` for what is no function, ``ValueError`` for options that make no sense.
    """
    if fn is None:
        return _Decorator(keywords)
    return _define(fn, keywords)


class _Decorator:
    def __init__(self, keywords: ActivityKeywords) -> None:
        self._keywords = keywords

    @overload
    def __call__(self, fn: Callable[P, Awaitable[R]], /) -> Activity[P, R]: ...

    @overload
    def __call__(self, fn: Callable[P, R], /) -> Activity[P, R]: ...

    def __call__(self, fn: Callable[..., Any], /) -> Any:
        return _define(fn, self._keywords)


def _define(fn: Callable[..., Any], keywords: ActivityKeywords) -> Activity[Any, Any]:
    if isinstance(fn, Activity):
        raise TypeError(f"{fn!r} is an activity already: use .options(...) to change its options")
    if not (inspect.isfunction(fn) or inspect.ismethod(fn)):
        raise TypeError(f"@durable.activity takes a function (def or async def), not {fn!r}")
    if inspect.isasyncgenfunction(fn) or inspect.isgeneratorfunction(fn):
        raise TypeError(f"activity {fn.__name__!r} is a generator: return a value instead of yielding")
    name = keywords.get("name", fn.__name__)
    plain = ActivityDefinition(
        name=name, fn=fn, signature=CallSignature(fn, name=name), options=ActivityOptions()
    )
    return Activity(_with(plain, keywords))


def _with(definition: ActivityDefinition, keywords: ActivityKeywords) -> ActivityDefinition:
    unknown = keywords.keys() - ActivityKeywords.__annotations__.keys()
    if unknown:
        raise TypeError(f"an activity has no option {sorted(unknown)[0]!r}")
    changes: dict[str, Any] = {k: v for k, v in keywords.items() if k in ("retry", "queue", "at_most_once")}
    for keyword, field_name in _DURATIONS.items():
        if keyword in keywords:
            changes[field_name] = seconds(keywords[keyword], keyword)  # type: ignore[literal-required]
    executor = keywords.get("executor", definition.executor)
    if executor not in (None, "process"):
        raise ValueError(f"executor must be None or 'process', not {executor!r}")
    if executor == "process" and inspect.iscoroutinefunction(definition.fn):
        raise ValueError(
            f"activity {definition.name!r} is async: executor='process' is for plain def functions"
        )
    if keywords.get("queue") is not None:
        check_id(keywords["queue"], "a queue")
    return replace(
        definition,
        name=check_id(keywords.get("name", definition.name), "the name of an activity"),
        options=replace(definition.options, **changes),
        executor=executor,
    )


_DURATIONS = {
    "timeout": "timeout_seconds",
    "queue_timeout": "queue_timeout_seconds",
    "heartbeat_timeout": "heartbeat_timeout_seconds",
}
