"""What is no race against a floor: W5 to W10, replay, an idle worker. One module a probe, each bounded in time.

A probe runs on a new store and gives readings, several to a round. `PROBES` names them for ``--workloads``.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Protocol

from benchmarks.conditions import noted
from benchmarks.probes.reading import Probed, Reading, probed
from benchmarks.stores import Store

PROBES = {
    "W5": "sleeping",
    "W5L": "sleeping_many",
    "W6": "recovery",
    "W7": "tree",
    "W8": "signals",
    "W9": "growth",
    "W10": "processes",
    "REPLAY": "replaying",
    "IDLE": "idle",
}
LONG = ("W5L",)
"""Only when they are asked for by name."""
ROUNDS = 3


class Probe(Protocol):
    """A module of this package."""

    TITLE: str
    STORES: Sequence[str]

    def run(self, url: str, store: Store, quick: bool) -> list[Reading]:
        """One round, on this new store."""
        ...


def probe(name: str, store: Store, *, rounds: int | None, quick: bool) -> Probed | None:
    """Measure; ``None`` if the probe has nothing to say about this store."""
    module = importlib.import_module(f"benchmarks.probes.{PROBES[name]}")
    if store.name.split("/")[0] not in module.STORES:
        return None
    found = []
    with noted() as conditions:
        default: int = 1 if quick else getattr(module, "ROUNDS", ROUNDS)
        times = rounds or default
        for _ in range(times):
            with store.new() as url:
                found.append(module.run(url, store, quick))
    return probed(name, module.TITLE, store.name, found, conditions)
