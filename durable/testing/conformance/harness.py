"""What a store brings to be judged: how to open it, and what can be asked of it.

A third party's store opts in with a file like this:

    class MyStore(StoreUnderTest):
        def __init__(self, path: Path) -> None:
            self.clock = ManualClock()
            self.path = path

        async def open(self) -> Backend:
            return await open_store(f"mine:///{self.path}", clock=self.clock)

    class TestMyStore(StoreLaws):
        @pytest.fixture
        def under_test(self, tmp_path: Path) -> MyStore:
            return MyStore(tmp_path / "x")

    class TestMyStoreAgainstMemory(RandomOperations):
        def make(self, folder: Path) -> MyStore:
            return MyStore(folder / "x")
"""

from __future__ import annotations

import asyncio

import pytest

from durable.backends.contract import Backend
from durable.testing.conformance.clock import SECOND, ManualClock

DAMAGES = {
    "head_ahead": "the head's number is one more than there are events",
    "history_lost": "the first events of the history are gone",
    "end_without_time": "the state is ``completed``, but nothing says when",
    "stranded": "what claims look for is gone: nothing says that or when the run is ready",
    "wake_lost": "the same, and the time at which the next timer is due",
    "lease_lost": "a claimed run's lease is gone",
    "retry_lost": "nothing says when a stalled run is tried again",
    "deadline_lost": "what is looked at for overdue runs is gone; the deadline itself is not",
    "activity_hidden": "what claims look for is gone of its activities",
    "activity_lost": "its activity rows are gone",
    "answers_lost": "its unread messages of the `ANSWER_KINDS` are gone, and what claims look for",
    "key_lost": "the remembered keys of its messages are gone",
    "closing_lost": "an ended run's children are not to be closed any more",
    "question_lost": "what is looked at for unanswered questions is gone; the questions are not",
    "instance_lost": "its current run's row is gone, the history and all else are not",
}
"""The kinds of damage that laws ask for."""


class StoreUnderTest:
    """One empty store, and its abilities. Override `open`, and what differs below it.

    The object lives for one test; its first `open` finds (or makes) an empty store.
    """

    clock: ManualClock | None = None
    """The clock that `open` gives to the store. ``None``: the store has only its own (servers). Then laws that need to
    move time far or to the microsecond are skipped, and the others wait for real, with leases of ``lease_us``."""

    keeps_data: bool = False
    """Opening it again, while it is open or after it was closed, finds what was written."""

    longest_wait_us: int = 1_500_000
    """How long a law may wait for real, when there is no ``clock``."""

    @property
    def lease_us(self) -> int:
        """How long the leases of the laws are."""
        return 10 * SECOND if self.clock else SECOND // 2

    async def open(self) -> Backend:
        """Open the store. Called again, it opens the same store once more (only if ``keeps_data``)."""
        raise NotImplementedError

    damages: frozenset[str] = frozenset({"head_ahead", "end_without_time", "stranded"})
    """The kinds that `damage` knows, of those in `DAMAGES`. Laws about the others are skipped."""

    async def damage(self, store: Backend, kind: str, instance_id: str) -> None:
        """Break the rows of an instance behind the store's back, so that the audits have something to find.

        ``kind`` is one of ``damages``; what each means stands at `DAMAGES`.
        """
        pytest.skip(f"{type(self).__name__} does not say how to damage its rows")

    async def wound(self, store: Backend, kind: str, instance_id: str) -> None:
        """Do this damage; skips the law if the store does not say how. Its own tests may have kinds of their own."""
        if kind in DAMAGES and kind not in self.damages:
            pytest.skip(f"{type(self).__name__} does not say how to do the damage {kind!r}")
        await self.damage(store, kind, instance_id)

    async def advance(self, us: int) -> None:
        """Let ``us`` microseconds pass on the store's clock; skips the law if that cannot be had."""
        if self.clock is not None:
            self.clock.advance(us)
        elif us > self.longest_wait_us:
            pytest.skip(f"{type(self).__name__} has no clock to move by {us} microseconds")
        else:
            await asyncio.sleep(us / SECOND + 0.002)

    def needs_clock(self) -> ManualClock:
        """The clock; skips the law if there is none."""
        if self.clock is None:
            pytest.skip(f"{type(self).__name__} has no clock that can be set")
        return self.clock

    def needs_kept_data(self) -> None:
        """Skips the law if what is written is gone when the store is closed."""
        if not self.keeps_data:
            pytest.skip(f"{type(self).__name__} keeps nothing when it is closed")
