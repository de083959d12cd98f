"""The class methods of ``datetime`` and ``date`` that look at the clock or at the local time zone, as guards.

``datetime.now()`` and the like are methods of C types, which refuse assignment. Replacing the classes would cost their
identity (``isinstance``, pickling, pydantic all ask for it), so the entries of the types' own dictionaries are
replaced: the classes stay what they are, and their subclasses inherit the guards. The interpreter keeps a cache of
type attributes, which is told. Design note 001 says what else was tried.

In a run the clock is the run's own, and local time is UTC: the next worker that replays the run may have another zone.
Not a general way to patch types: it knows seven methods, none of which is a slot.
"""

from __future__ import annotations

import ctypes
import functools
import gc
import sys
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, tzinfo
from types import FrameType
from typing import Any, Protocol


class _Clock(Protocol):
    now_us: int


RunOf = Callable[[FrameType], _Clock | None]
"""The run whose step a frame belongs to, if any."""

_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - naive, like what it is added to

CLASS_METHODS = frozenset({"now", "utcnow", "today", "fromtimestamp"})
"""Those that somebody may have taken along by name (``default_factory=datetime.now``)."""


def _at(cls: type[date], now_us: int, zone: tzinfo | None) -> Any:
    at = _EPOCH + timedelta(microseconds=now_us)
    if not issubclass(cls, datetime):
        return cls(at.year, at.month, at.day)
    made = cls(at.year, at.month, at.day, at.hour, at.minute, at.second, at.microsecond, tzinfo=zone)
    return made if zone is None else zone.fromutc(made)


def _now(run: _Clock, cls: type[datetime], tz: tzinfo | None = None) -> Any:
    return _at(cls, run.now_us, tz)


def _now_without_zone(run: _Clock, cls: type[date]) -> Any:
    return _at(cls, run.now_us, None)


_datetime_of, _date_of = datetime.__dict__["fromtimestamp"], date.__dict__["fromtimestamp"]
_seconds_of, _in_zone = datetime.__dict__["timestamp"], datetime.__dict__["astimezone"]


def _datetime_from(_: _Clock, cls: type[datetime], timestamp: float, tz: tzinfo | None = None) -> Any:
    made = _datetime_of(cls, timestamp, UTC if tz is None else tz)
    return made.replace(tzinfo=None) if tz is None else made


def _date_from(_: _Clock, cls: type[date], timestamp: float, /) -> Any:
    at = _datetime_of(datetime, timestamp, UTC)
    return cls(at.year, at.month, at.day)


def _aware(self: datetime) -> datetime:
    return self.replace(tzinfo=UTC) if self.tzinfo is None else self


def _timestamp(_: _Clock, self: datetime) -> Any:
    return _seconds_of(_aware(self))


def _astimezone(_: _Clock, self: datetime, tz: tzinfo | None = None) -> Any:
    return _in_zone(_aware(self), UTC if tz is None else tz)


# --- installing -------------------------------------------------------------------------------------------------------

_Shape = Callable[..., Callable[..., Any]]

# Three shapes, so that a call from outside of a run costs one frame and no tuple of arguments.


def _alone(real: Any, own: Callable[..., Any], running: dict[int, Any], run_of: RunOf) -> Callable[..., Any]:
    bound = _bound(real)

    def guard(owner: Any) -> Any:
        if running and (run := run_of(sys._getframe(1))) is not None:
            return own(run, owner)
        return bound[owner]() if owner in bound else real(owner)

    return guard


def _with_zone(
    real: Any, own: Callable[..., Any], running: dict[int, Any], run_of: RunOf
) -> Callable[..., Any]:
    bound = _bound(real)

    def guard(cls: Any, tz: tzinfo | None = None) -> Any:
        if running and (run := run_of(sys._getframe(1))) is not None:
            return own(run, cls, tz)
        return bound[cls](tz) if cls in bound else real(cls, tz)

    return guard


def _any(real: Any, own: Callable[..., Any], running: dict[int, Any], run_of: RunOf) -> Callable[..., Any]:
    def guard(owner: Any, *args: Any, **kwargs: Any) -> Any:
        if running and (run := run_of(sys._getframe(1))) is not None:
            return own(run, owner, *args, **kwargs)
        return real(owner, *args, **kwargs)

    return guard


def _bound(real: Any) -> dict[type, Any]:
    """A descriptor of C is slow to call with the class; bound to it, it is as fast as before."""
    return {cls: real.__get__(None, cls) for cls in (date, datetime) if hasattr(cls, real.__name__)}


# (class, name, what a run gets, shape)
_GUARDED: tuple[tuple[type[date], str, Callable[..., Any], _Shape], ...] = (
    (datetime, "now", _now, _with_zone),
    (datetime, "utcnow", _now_without_zone, _alone),
    (datetime, "fromtimestamp", _datetime_from, _any),
    (datetime, "timestamp", _timestamp, _any),
    (datetime, "astimezone", _astimezone, _any),
    (date, "today", _now_without_zone, _alone),
    (date, "fromtimestamp", _date_from, _any),
)


def install(running: dict[int, Any], run_of: RunOf) -> list[str]:
    """Put the guards in place; the names of those that this interpreter did not take, normally none.

    ``running`` is empty when no run is in a step, and then nothing else is asked.
    """
    return [
        f"{cls.__name__}.{name}"
        for cls, name, own, shape in _GUARDED
        if not _replace(
            cls, name, _named(shape(cls.__dict__[name], own, running, run_of), cls.__dict__[name])
        )
    ]


def _named(guard: Callable[..., Any], real: Any) -> Any:
    functools.update_wrapper(guard, real)
    guard.__module__ = "datetime"
    return classmethod(guard) if real.__name__ in CLASS_METHODS else guard


def _replace(cls: type, name: str, guard: Any) -> bool:
    try:
        setattr(cls, name, guard)  # where `datetime` is written in Python
    except TypeError:
        for names in gc.get_referents(cls.__dict__):
            if type(names) is dict:
                names[name] = guard
        ctypes.pythonapi.PyType_Modified(ctypes.py_object(cls))
    return cls.__dict__[name] is guard and getattr(cls, name) is not guard.__wrapped__
