"""Mocks: what stands in for an activity or a child, and what it was called with.

A mock of an activity is an activity: it is scheduled, retried and recorded like the real one, and every attempt is a
call. A mock of a child is a workflow whose body is one such activity, so that it is called once however often the
child's history is replayed.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any, Final, Generic, ParamSpec, TypeVar
from unittest import mock

from durable.core.definition import ActivityDefinition, ActivityOptions, WorkflowDefinition
from durable.core.retry import Retry
from durable.errors import ActivityTimeout, NonRetryable
from durable.primitives.activity import Activity
from durable.primitives.attempt import current_attempt

P = ParamSpec("P")
R = TypeVar("R")
Doze = Callable[[float], Awaitable[None]]
Raisable = BaseException | type[BaseException]


class _Nothing:
    def __repr__(self) -> str:
        return "<not given>"


NOTHING: Final[Any] = _Nothing()


class Mock(Generic[P, R]):
    """Stands in for an activity or a child in one `Environment`; made by `Environment.mock`.

    ``calls`` are the calls so far, as `unittest.mock.call` objects (``.args``, ``.kwargs``), retries included.
    """

    def __init__(self, name: str, fn: Callable[..., Any], behaviour: Behaviour, doze: Doze) -> None:
        self.name = name
        self._behaviour = behaviour
        self._doze = doze
        self._record = mock.Mock(spec=_plain_like(fn), name=name)

    def __repr__(self) -> str:
        return f"<mock of {self.name!r}, called {self.call_count} times>"

    @property
    def calls(self) -> list[Any]:
        return list(self._record.call_args_list)

    @property
    def call_count(self) -> int:
        return int(self._record.call_count)

    @property
    def called(self) -> bool:
        return bool(self._record.called)

    @property
    def last_call(self) -> Any:
        """The last call, ``None`` if there was none."""
        return self._record.call_args

    def assert_called(self) -> None:
        self._record.assert_called()

    def assert_called_once(self) -> None:
        self._record.assert_called_once()

    def assert_not_called(self) -> None:
        self._record.assert_not_called()

    def assert_called_with(self, *args: P.args, **kwargs: P.kwargs) -> None:
        """The last call had these arguments; it does not matter which of them were given by name."""
        self._record.assert_called_with(*args, **kwargs)

    def assert_called_once_with(self, *args: P.args, **kwargs: P.kwargs) -> None:
        self._record.assert_called_once_with(*args, **kwargs)

    def assert_any_call(self, *args: P.args, **kwargs: P.kwargs) -> None:
        self._record.assert_any_call(*args, **kwargs)

    def reset(self) -> None:
        """Forget the calls; what it does stays."""
        self._record.reset_mock()

    async def _answer(self, *args: Any, **kwargs: Any) -> Any:
        self._record(*args, **kwargs)
        await self._take_time()
        value = self._behaviour.next(self.name, args, kwargs)
        return await value if inspect.isawaitable(value) else value

    async def _take_time(self) -> None:
        takes = self._behaviour.takes_seconds
        if not takes:
            return
        attempt: Any = current_attempt.get()
        limit = None if attempt is None else attempt.options.timeout_seconds
        if limit is not None and takes > limit:
            await self._doze(limit)
            raise ActivityTimeout(f"activity {attempt.label} took longer than {limit} s", "timeout")
        await self._doze(takes)


class Behaviour:
    """What a mock does when it is called: gives a value, raises, calls a function, or one thing after the other."""

    def __init__(
        self,
        *,
        returns: Any = NOTHING,
        raises: Raisable | None = None,
        calls: Callable[..., Any] | None = None,
        side_effect: Any = None,
        takes: float | timedelta = 0.0,
    ) -> None:
        given = [returns is not NOTHING, raises is not None, calls is not None, side_effect is not None]
        if sum(given) > 1:
            raise TypeError("a mock does one thing: returns=, raises=, calls= or side_effect=")
        self.takes_seconds = takes.total_seconds() if isinstance(takes, timedelta) else float(takes)
        self._returns = None if returns is NOTHING else returns
        self._raises = raises
        self._calls = calls
        self._sequence: Iterator[Any] | None = None
        if side_effect is not None:
            self._side_effect(side_effect)

    @classmethod
    def of(cls, given: Any, takes: float | timedelta) -> Behaviour:
        """An exception is raised, a function called; anything else is the value."""
        if _is_raisable(given):
            return cls(raises=given, takes=takes)
        if callable(given):
            return cls(calls=given, takes=takes)
        return cls(returns=given, takes=takes)

    def _side_effect(self, given: Any) -> None:
        """As in `unittest.mock`: an exception, a function, or an iterable of values and exceptions."""
        if _is_raisable(given):
            self._raises = given
        elif callable(given):
            self._calls = given
        elif isinstance(given, Iterable):
            self._sequence = iter(given)
        else:
            raise TypeError(f"side_effect is an exception, a function or an iterable, not {given!r}")

    def next(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """What this call gives (maybe an awaitable). Raises what it is to raise."""
        if self._raises is not None:
            raise self._raises
        if self._calls is not None:
            return self._calls(*args, **kwargs)
        if self._sequence is None:
            return self._returns
        value = next(self._sequence, NOTHING)
        if value is NOTHING:
            raise NonRetryable(f"the mock of {name!r} was called once more than it has answers")
        if _is_raisable(value):
            raise value
        return value


def mocked_activity(definition: ActivityDefinition, answers: Mock[..., Any]) -> ActivityDefinition:
    """The same activity with the mock as its function."""

    async def answer(*args: Any, **kwargs: Any) -> Any:
        return await answers._answer(*args, **kwargs)

    return replace(definition, fn=answer, executor=None)


def mocked_workflow(
    definition: WorkflowDefinition, answers: Mock[..., Any]
) -> tuple[WorkflowDefinition, ActivityDefinition]:
    """The same workflow with one activity as its body, and that activity."""
    plain = ActivityDefinition(
        name=f"mock of {definition.name}{definition.version and ' ' + definition.version}",
        fn=definition.fn,
        signature=definition.signature,
        options=ActivityOptions(retry=Retry(max_attempts=1)),
    )
    asked = mocked_activity(plain, answers)
    activity: Activity[..., Any] = Activity(asked)

    async def stand_in(*args: Any, **kwargs: Any) -> Any:
        return await activity(*args, **kwargs)

    return replace(definition, fn=stand_in), asked


def _plain_like(fn: Callable[..., Any]) -> Callable[..., Any]:
    """A plain function with the signature of ``fn``: the mock of an ``async`` one would be awaited to count."""

    def like(*args: Any, **kwargs: Any) -> None: ...

    like.__signature__ = inspect.signature(fn)  # type: ignore[attr-defined]
    return like


def _is_raisable(value: object) -> bool:
    return isinstance(value, BaseException) or (isinstance(value, type) and issubclass(value, BaseException))
