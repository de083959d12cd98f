"""Engine, floor, engine, floor: so that what else the machine does meets both sides alike."""

from __future__ import annotations

import gc
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.engine import Measured, measure_engine, url_of
from benchmarks.figures import Figures, cpu_ratio, latency_ratio, side, throughput_ratio
from benchmarks.floors import BareRows, Floor, PlainFunctions, record, written_alone
from benchmarks.tape import Written, written
from benchmarks.workloads import Workload


@contextmanager
def _new_directory(parent: Path | None) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="durable-bench-", dir=parent) as name:
        yield Path(name)


def compare(
    workload: Workload, store: str, *, rounds: int, quick: bool, directory: Path | None = None
) -> Figures:
    """Measure a workload on a store. ``directory`` is where database files are made and removed."""
    count = workload.count(quick)
    floor, in_rounds, alone = _floor_of(workload, store, count, directory)
    pairs = [_pair(workload, store, count, floor, directory) for _ in range(rounds)]
    gc.unfreeze()
    return Figures(
        workload=workload.name,
        title=workload.title,
        store=store,
        floor_kind=floor.kind,
        workflows=count,
        activities_per_workflow=workload.activities,
        in_flight=workload.in_flight,
        rounds=rounds,
        engine=side(workload, count, [engine for engine, _ in pairs]),
        floor=side(workload, count, [bare for _, bare in pairs]),
        throughput_ratio=throughput_ratio(pairs),
        cpu_ratio=cpu_ratio(pairs),
        latency_ratio=latency_ratio(workload, pairs),
        written=in_rounds,
        written_alone=alone,
    )


def _floor_of(
    workload: Workload, store: str, count: int, directory: Path | None
) -> tuple[Floor, Written | None, Written | None]:
    if store == "memory":
        return PlainFunctions(workload, count), None, None
    with _new_directory(directory) as place:
        tape = record(workload, place, count)
    with _new_directory(directory) as place:
        alone = written_alone(workload, place)
    return BareRows(tape), written(tape), alone


def _pair(
    workload: Workload, store: str, count: int, floor: Floor, directory: Path | None
) -> tuple[Measured, Measured]:
    with _new_directory(directory) as place:
        engine = measure_engine(workload, url_of(store, place), count)
    with _new_directory(directory) as place:
        return engine, floor.run(place)
