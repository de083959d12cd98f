"""Virtual time: a clock that stands still until it is moved, and what is to happen when it gets somewhere.

It is the clock of the store, of which workers and clients only hear; the loop's own time goes on as ever, and real
activities take the time that they take.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from durable.backends.clock import StoreClock
from durable.primitives.info import time_of
from durable.primitives.timer import micros_of

BEGINNING = datetime(2024, 1, 1, tzinfo=UTC)
"""When an environment begins if nobody says otherwise: a Monday, the same one in every run of a test."""


class VirtualClock(StoreClock):
    """The time in microseconds since the epoch. ``clock()`` is what the store is opened with."""

    def __init__(self, start: datetime) -> None:
        super().__init__()
        self._virtual_us = micros_of(start)

    def __call__(self) -> int:
        return self._virtual_us

    def now_us(self) -> int:
        """The same time: whoever believed the real clock between two answers would be ahead of the store."""
        return self._virtual_us

    def hear(self, now_us: int) -> None:
        """Nothing to learn: the store has its time from here."""

    @property
    def now(self) -> datetime:
        """The time as a time-zone-aware ``datetime``."""
        return time_of(self._virtual_us)

    def move_to(self, at_us: int) -> None:
        """Go on to this time, never back."""
        self._virtual_us = max(self._virtual_us, at_us)

    def at(self, when: float | timedelta | datetime) -> int:
        """The microsecond that is meant: seconds or ``timedelta`` from now, or a ``datetime``.

        Raises ``ValueError`` for a time that is over.
        """
        if isinstance(when, datetime):
            at_us = micros_of(when)
        else:
            given = when.total_seconds() if isinstance(when, timedelta) else float(when)
            at_us = self._virtual_us + round(given * 1e6)
        if at_us < self._virtual_us:
            raise ValueError(f"{when!r} is over: it is {self.now.isoformat()} in this environment")
        return at_us


class Alarms:
    """Calls to be made when the clock gets somewhere: in order of time, equals in the order in which they were set."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, Callable[[], None]]] = []
        self._count = 0

    def set(self, at_us: int, call: Callable[[], None]) -> None:
        """Have ``call()`` made at this time."""
        self._count += 1
        heapq.heappush(self._heap, (at_us, self._count, call))

    @property
    def next_us(self) -> int | None:
        """When the next one is."""
        return self._heap[0][0] if self._heap else None

    def ring(self, now_us: int) -> bool:
        """Make the calls that are due. Whether there were any."""
        rang = False
        while self._heap and self._heap[0][0] <= now_us:
            rang = True
            heapq.heappop(self._heap)[2]()
        return rang
