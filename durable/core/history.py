"""A history: the ordered events of one run, and the laws that hold for it.

- The first event is `RunStarted`, and there is no other one.
- An ending is the last event; at most one exists.
- Every other event is an input or a decision; the decisions behind an input are what it led to (a *turn*).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from orjson import loads

from durable.core.events import (
    OUTSIDE_ENDINGS,
    Decision,
    Event,
    Input,
    RunCancelled,
    RunCompleted,
    RunContinued,
    RunFailed,
    RunStarted,
    decode_event,
    event_of,
    reader_of,
)
from durable.core.light_records import filled_tuple

ENDINGS = (RunCompleted, RunFailed, RunCancelled, RunContinued, *OUTSIDE_ENDINGS)
_ENDING_KINDS: frozenset[type[Event]] = frozenset(ENDINGS)


class Turn(NamedTuple):
    """An input, its number, and the decisions it led to."""

    number: int
    input: Input
    decisions: list[Decision]


def decode_history(stored: Iterable[bytes], *, first: int = 1) -> list[Event]:
    """The events of stored lines, numbered from ``first``. Raises ``ValueError`` (naming it) for what is no event."""
    lines = list(stored)
    try:
        parsed = loads(b"[%b]" % b",".join(lines))
        if len(parsed) == len(lines):
            return [reader_of((data["kind"], len(data)), event_of)(data) for data in parsed]
    except (KeyError, TypeError, ValueError):
        pass  # which line it is, is found below
    events: list[Event] = []
    for number, line in enumerate(lines, first):
        try:
            events.append(decode_event(line))
        except ValueError as error:
            raise ValueError(f"event {number} of the history cannot be read: {error}") from None
    return events


def turns(history: Sequence[Event]) -> Iterator[Turn]:
    """Cut a history into turns; an ending from outside is left out. Raises ``ValueError`` where a law is broken."""
    check(history)
    end = len(history) - isinstance(history[-1], OUTSIDE_ENDINGS)
    place = 0
    while place < end:
        event, place = history[place], place + 1
        number = place
        decisions: list[Any] = []
        while place < end and isinstance(following := history[place], Decision):
            decisions.append(following)
            place += 1
        yield filled_tuple(Turn, (number, event, decisions))


def check(history: Sequence[Event]) -> None:
    """Raise ``ValueError`` if a law of the module's docstring is broken."""
    if not history or not isinstance(history[0], RunStarted):
        raise ValueError("a history begins with run_started")
    kinds = [*map(type, history)]
    if kinds.count(RunStarted) > 1:
        raise ValueError(f"event {kinds.index(RunStarted, 1) + 1} starts the run a second time")
    if not _ENDING_KINDS.isdisjoint(kinds[:-1]):
        number = next(n for n, kind in enumerate(kinds, 1) if kind in _ENDING_KINDS)
        raise ValueError(
            f"event {number} ({history[number - 1].kind}) ends the run, but {len(history) - number} more follow"
        )
