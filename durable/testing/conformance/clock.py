"""A clock that moves only when a test says so. A store is opened with it as its own, one and only clock."""

from __future__ import annotations

SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE


class ManualClock:
    """Microseconds since the epoch; ``clock()`` reads it.

    It starts at an odd microsecond, so that whoever rounds to milliseconds or seconds is caught.
    """

    def __init__(self, now_us: int = 1_700_000_000_123_457) -> None:
        self.now_us = now_us

    def __call__(self) -> int:
        return self.now_us

    def advance(self, us: int) -> None:
        """Move on by ``us`` microseconds, never back."""
        if us < 0:
            raise ValueError(f"a store's clock does not go back, and {us} is negative")
        self.now_us += us
