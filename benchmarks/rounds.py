"""Engine, floor, engine, floor: so that what else the machine does meets both sides alike."""

from __future__ import annotations

import gc

from benchmarks import loops
from benchmarks.conditions import noted
from benchmarks.engine import make_store, measure_engine
from benchmarks.figures import Figures, cpu_ratio, latency_ratio, side, throughput_ratio
from benchmarks.floors import PlainFunctions, record, written_alone
from benchmarks.measured import Measured
from benchmarks.stores import Floor, Store
from benchmarks.tape import Written, written
from benchmarks.workloads import Workload


def compare(workload: Workload, store: Store, *, rounds: int, quick: bool) -> Figures:
    """Measure a workload on a store."""
    count = workload.count(quick)
    with noted() as conditions:
        floor, in_rounds, alone = _floor_of(workload, store, count)
        pairs = [_pair(workload, store, count, floor) for _ in range(rounds)]
        gc.unfreeze()
    return Figures(
        workload=workload.name,
        title=workload.title,
        store=store.name,
        loop=loops.chosen(),
        floor_kind=store.floor_kind,
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
        conditions=conditions,
    )


def _floor_of(workload: Workload, store: Store, count: int) -> tuple[Floor, Written | None, Written | None]:
    if store.name == "memory":
        return PlainFunctions(workload, count), None, None
    with store.new() as url:
        tape = record(workload, store, url, count)
    return store.floor(tape), written(tape), written_alone(workload, store)


def _pair(workload: Workload, store: Store, count: int, floor: Floor) -> tuple[Measured, Measured]:
    with store.new() as url:
        make_store(url)
        engine = measure_engine(workload, url, count)
    with store.new() as url:
        make_store(url)
        return engine, floor.run(url)
