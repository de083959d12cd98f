"""Warm runs: what a worker keeps in memory so that the next task of a run need not replay its history."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator

from durable.worker.warm import WarmRun


class RunCache:
    """At most ``size`` runs, least recently used first out. A busy run is never evicted; eviction writes nothing."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._runs: OrderedDict[str, WarmRun] = OrderedDict()

    def __len__(self) -> int:
        return len(self._runs)

    def __iter__(self) -> Iterator[WarmRun]:
        return iter(list(self._runs.values()))

    def get(self, run_id: str) -> WarmRun | None:
        """The warm run, now the most recently used one."""
        found = self._runs.get(run_id)
        if found is not None:
            self._runs.move_to_end(run_id)
        return found

    def put(self, warm: WarmRun) -> None:
        """Keep a run; the size is enforced by `shrink`, when its step is over."""
        self._runs[warm.run_id] = warm
        self._runs.move_to_end(warm.run_id)

    def evict(self, run_id: str) -> None:
        """Forget a run, closing its coroutines."""
        warm = self._runs.pop(run_id, None)
        if warm is not None:
            warm.run.drop()

    def shrink(self) -> None:
        """Evict the least recently used runs that nobody works on, down to the size."""
        excess = len(self._runs) - self._size
        if excess <= 0:
            return
        for warm in [w for w in self._runs.values() if not w.busy and not w.local][:excess]:
            self.evict(warm.run_id)
