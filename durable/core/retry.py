"""When to try again: a policy and one failed attempt in, the next delay out.

Nothing here waits, reads a clock or draws a random number: the worker hands in how long the activity has been
going on, and the source of chance. What time limits mean is in `Retry`; how exceptions are stored is in
`durable.core.failure`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, overload

from durable.core.failure import Failure, failure_of, type_name

LONGEST_SECONDS = 1000 * 365.25 * 86_400
"""A thousand years: what lies further ahead is no time that every store and `datetime` can hold."""


@overload
def seconds(value: float | timedelta, what: str, *, negative: bool = ..., infinite: bool = ...) -> float: ...
@overload
def seconds(value: None, what: str, *, negative: bool = ..., infinite: bool = ...) -> None: ...
@overload
def seconds(
    value: float | timedelta | None, what: str, *, negative: bool = ..., infinite: bool = ...
) -> float | None: ...
def seconds(
    value: float | timedelta | None, what: str, *, negative: bool = False, infinite: bool = False
) -> float | None:
    """A duration given as seconds or ``timedelta``, in seconds; None stays None.

    Raises `ValueError`, which names ``what`` and the value, for NaN, for what is no number (``bool`` is
    none), for more than `LONGEST_SECONDS`, and, unless they are allowed, for negative and infinite durations.
    """
    if value is None:
        return None
    if isinstance(value, timedelta):
        number = value.total_seconds()
    elif isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{what} must be a number of seconds or a timedelta, not {value!r:.100}")
    else:
        number = _as_float(value)
    if math.isnan(number) or (math.isinf(number) and not infinite):
        raise ValueError(
            f"{what} must be a finite number of seconds, not {number} (None, where allowed, is no limit)"
        )
    if number < 0 and not negative:
        raise ValueError(f"{what} must not be negative, but is {value!r}")
    if abs(number) > LONGEST_SECONDS and math.isfinite(number):
        raise ValueError(f"{what} must be at most a thousand years, but is {value!r:.100}")
    return number


def _as_float(value: float) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


@dataclass(frozen=True, slots=True, init=False)
class Retry:
    """How often, and how soon after one another, an activity that raises is tried again.

    Durations are given in seconds or as ``timedelta`` and kept in seconds. The delay after the first failure
    is ``initial``, each further one ``factor`` times longer, at most ``max_interval``; ``jitter`` spreads
    each by this fraction to either side. ``max_attempts`` counts the first one too; None is unlimited.
    ``timeout`` counts from the scheduling of the activity: a try that could only start after it is not made.
    ``non_retryable`` holds exception classes, whose subclasses count too, or their names, with or without the
    module.

    `durable.NonRetryable` ends the tries and `durable.RetryAfter` chooses the delay, whatever the policy says
    of them; ``max_attempts`` and ``timeout`` hold for `durable.RetryAfter` too.

    Raises `ValueError`, naming the argument, for values that make no sense.
    """

    max_attempts: int | None
    initial: float
    factor: float
    max_interval: float
    jitter: float
    timeout: float | None
    non_retryable: tuple[str, ...]

    def __init__(
        self,
        max_attempts: int | None = 3,
        *,
        initial: float | timedelta = 1.0,
        factor: float = 2.0,
        max_interval: float | timedelta = 100.0,
        jitter: float = 0.1,
        timeout: float | timedelta | None = None,
        non_retryable: Iterable[type[BaseException] | str] = (),
    ) -> None:
        checked = {
            "max_attempts": _attempts(max_attempts),
            "initial": seconds(initial, "Retry(initial=)"),
            "factor": _number(factor, "Retry(factor=)", least=1.0, most=math.inf),
            "max_interval": seconds(max_interval, "Retry(max_interval=)"),
            "jitter": _number(jitter, "Retry(jitter=)", least=0.0, most=1.0),
            "timeout": seconds(timeout, "Retry(timeout=)"),
            "non_retryable": _names(non_retryable),
        }
        for name, value in checked.items():
            object.__setattr__(self, name, value)

    def next_delay_seconds(
        self,
        attempt: int,
        failure: Failure | BaseException,
        elapsed_seconds: float,
        random: Callable[[], float],
    ) -> float | None:
        """How long to wait before the next try; None: give up, and raise the failure.

        ``attempt`` is the number of the one that failed, from 1; ``elapsed_seconds`` the time since the
        activity was scheduled; ``random`` gives numbers from 0 up to 1.
        """
        if isinstance(failure, BaseException):
            failure = failure_of(failure)
        if self.max_attempts is not None and attempt >= self.max_attempts:
            return None
        if failure.non_retryable or self._forbids(failure):
            return None
        delay = failure.retry_after_seconds
        if delay is None:
            delay = self._interval(attempt) * (1 + self.jitter * (2 * random() - 1))
        delay = min(delay, LONGEST_SECONDS)
        if self.timeout is not None and elapsed_seconds + delay > self.timeout:
            return None
        return delay

    def to_json(self) -> dict[str, Any]:
        """The policy as a dict of plain JSON values, for `from_json`."""
        return {
            "max_attempts": self.max_attempts,
            "initial": self.initial,
            "factor": self.factor,
            "max_interval": self.max_interval,
            "jitter": self.jitter,
            "timeout": self.timeout,
            "non_retryable": list(self.non_retryable),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Retry:
        """The policy that `to_json` wrote. Raises `ValueError` or `TypeError` for anything else."""
        return cls(**data)

    def _interval(self, attempt: int) -> float:
        if self.initial == 0:
            return 0.0
        try:
            return min(self.initial * self.factor ** (attempt - 1), self.max_interval)
        except OverflowError:
            return self.max_interval

    def _forbids(self, failure: Failure) -> bool:
        names = (failure.type, *failure.bases)
        return any(
            name == forbidden or name.endswith(f".{forbidden}")
            for forbidden in self.non_retryable
            for name in names
        )


def _attempts(value: int | None) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(
            f"Retry(max_attempts=) must be a whole number from 1, or None for no limit, not {value!r:.100}"
        )
    return value


def _number(value: float, what: str, *, least: float, most: float) -> float:
    if not isinstance(value, bool) and isinstance(value, int | float):
        number = _as_float(value)
        if least <= number <= most and math.isfinite(number):
            return number
    limits = f"from {least:g} to {most:g}" if math.isfinite(most) else f"of at least {least:g}"
    raise ValueError(f"{what} must be a finite number {limits}, not {value!r:.100}")


def _names(given: Iterable[type[BaseException] | str]) -> tuple[str, ...]:
    # A single class or name is a slip of the pen; a name would even be taken letter by letter.
    if isinstance(given, str | type) or not isinstance(given, Iterable):
        raise ValueError(
            f"Retry(non_retryable=) must be a tuple of exception classes or names, not {given!r:.100}"
        )
    return tuple(_name(each) for each in given)


def _name(each: type[BaseException] | str) -> str:
    if isinstance(each, type) and issubclass(each, BaseException):
        return type_name(each)
    if isinstance(each, str) and each:
        return each
    raise ValueError(f"Retry(non_retryable=) must hold exception classes or their names, not {each!r:.100}")
