"""The store's time, as far as it is known here: the last one received, and what has passed since. Never ahead."""

from __future__ import annotations

import time


class StoreClock:
    """Told by every answer; asked between answers."""

    def __init__(self) -> None:
        self._at_us = 0
        self._heard_ns = time.monotonic_ns()

    def hear(self, now_us: int) -> None:
        """An answer carried this time."""
        if now_us >= self.now_us():
            self._at_us = now_us
            self._heard_ns = time.monotonic_ns()

    def now_us(self) -> int:
        """Microseconds since the epoch, at most what the store would say."""
        return self._at_us + (time.monotonic_ns() - self._heard_ns) // 1000
