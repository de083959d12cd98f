"""One round's readings, and the watch that takes them."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One round. ``cpu_seconds``: this process with its threads, no server; ``latencies``: seconds, one a workflow."""

    seconds: float
    cpu_seconds: float
    latencies: tuple[float, ...]


class Stopwatch:
    """What `timed` gives: readings are there when its block has ended."""

    seconds = 0.0
    cpu_seconds = 0.0


@contextmanager
def timed() -> Iterator[Stopwatch]:
    """Wall and CPU time of a block."""
    watch = Stopwatch()
    began, cpu_began = time.perf_counter(), time.process_time()
    yield watch
    watch.seconds = time.perf_counter() - began
    watch.cpu_seconds = time.process_time() - cpu_began


def settle_garbage() -> None:
    """Before each round: garbage of the round before is not this one's cost, nor is looking through what stays."""
    gc.unfreeze()
    gc.collect()
    gc.freeze()
