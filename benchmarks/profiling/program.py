"""A workload in a process of its own, for the profiler. Prints what CPU time its threads took, the warm-up left out."""

from __future__ import annotations

import json
import sys
import time

from benchmarks import loops
from benchmarks.engine import make_store, measure_engine
from benchmarks.processes import cpu_seconds_of_family
from benchmarks.workloads import WORKLOADS, Workload

WARM_UP = 20
"""Workflows of a first round, which loads all modules: their import is no workflow's cost."""


def main() -> None:
    """``{"workload": "W1", "urls": [..., ...], "count": 100, "loop": "asyncio", "server": 123}``."""
    job = json.loads(sys.argv[1])
    workload = WORKLOADS[job["workload"]]
    with loops.using(job["loop"]):
        for url in job["urls"]:
            make_store(url)
        measure_engine(workload, job["urls"][0], WARM_UP)
        print(
            "READINGS " + json.dumps(profiled_part(workload, job["urls"][1], job["count"], job["server"])),
            flush=True,
        )


def profiled_part(workload: Workload, url: str, count: int, server: int | None) -> dict[str, float]:
    """What counts: the profiler's stacks are taken from here on. ``server``: its process."""
    main_thread = [0.0, 0.0]
    of_server = [0.0, 0.0]

    def look(at: int) -> None:
        main_thread[at] = time.thread_time()

    def begin() -> None:
        of_server[0] = _cpu_of(server)
        look(0)

    found = measure_engine(workload, url, count, begin=begin, done=lambda: look(1))
    of_server[1] = _cpu_of(server)
    return {
        "cpu_seconds": found.cpu_seconds,
        "main_seconds": main_thread[1] - main_thread[0],
        "server_seconds": of_server[1] - of_server[0],
    }


def _cpu_of(server: int | None) -> float:
    return 0.0 if server is None else cpu_seconds_of_family(server)


if __name__ == "__main__":
    main()
