"""A queue of what comes due: the memory store's only index.

Each claim asks "what is due by now, longest due first?" and a store may hold 50,000 runs that sleep, so the
answer must not look at those. This is what an SQL store has an index on a column like ``ready_at_us`` for.
"""

from __future__ import annotations

import heapq
from collections.abc import Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)


class DueQueue(Generic[K]):
    """Keys with one due time each (microseconds), the earliest first; equals in the order in which they were put.

    A heap cannot change or drop an entry in its middle. So `put` adds a second one, and the dictionary says
    which entry of a key counts; the others are skipped when they come up, and swept out when they are more
    than half of the heap.
    """

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, K]] = []
        self._live: dict[K, tuple[int, int]] = {}
        self._count = 0

    def __len__(self) -> int:
        return len(self._live)

    def __contains__(self, key: K) -> bool:
        return key in self._live

    def due_us(self, key: K) -> int | None:
        """When this key comes due; ``None`` if it is not here."""
        entry = self._live.get(key)
        return None if entry is None else entry[0]

    def put(self, key: K, due_us: int | None) -> None:
        """Make the key come due at this time and no other; ``None`` takes it out."""
        if due_us is None:
            self._live.pop(key, None)
        elif self.due_us(key) != due_us:
            self._count += 1
            self._live[key] = (due_us, self._count)
            heapq.heappush(self._heap, (due_us, self._count, key))
        self._sweep()

    def first(self) -> tuple[int, int, K] | None:
        """The earliest entry: due time, a number that orders equals, key."""
        while self._heap and self._is_dead(self._heap[0]):
            heapq.heappop(self._heap)
        return self._heap[0] if self._heap else None

    def next_us(self) -> int | None:
        """When the earliest key comes due."""
        first = self.first()
        return None if first is None else first[0]

    def due(self, now_us: int) -> K | None:
        """The key that has been due for longest, or ``None``. It stays here until it is put anew."""
        first = self.first()
        return first[2] if first is not None and first[0] <= now_us else None

    def all_keys(self) -> list[K]:
        """All keys, in no order."""
        return list(self._live)

    def _is_dead(self, entry: tuple[int, int, K]) -> bool:
        return self._live.get(entry[2]) != entry[:2]

    def _sweep(self) -> None:
        if len(self._heap) > 2 * len(self._live) + 64:
            self._heap = [entry for entry in self._heap if not self._is_dead(entry)]
            heapq.heapify(self._heap)
