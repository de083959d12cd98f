"""W5 with 50,000 asleep. It takes minutes, and runs only when it is asked for by name."""

from __future__ import annotations

from benchmarks.probes import sleeping
from benchmarks.probes.reading import Reading
from benchmarks.stores import Store

TITLE = "50,000 sleeping workflows"
STORES = sleeping.STORES
ROUNDS = 1
COUNT, QUICK_COUNT = 50_000, 500


def run(url: str, store: Store, quick: bool) -> list[Reading]:
    """See `Probe`."""
    return sleeping.measure(url, store, QUICK_COUNT if quick else COUNT)
