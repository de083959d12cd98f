"""The same without the engine: what the store, or nothing at all, would need for it.

*SQLite, PostgreSQL, MariaDB*: a bare program that writes the rows of a tape (``stores/``). *memory*: the same functions
called as plain asyncio. It keeps nothing; the ratio is the price of the engine as such.
"""

from __future__ import annotations

from benchmarks import loops
from benchmarks.engine import make_store, measure_engine
from benchmarks.measured import Measured, settle_garbage, timed
from benchmarks.stores import Store
from benchmarks.tape import Tape, Written, written
from benchmarks.workloads import Workload, drive

ALONE_WORKFLOWS = 5


class PlainFunctions:
    """The workflows' functions, called."""

    def __init__(self, workload: Workload, count: int) -> None:
        self._workload = workload
        self._count = count

    def run(self, url: str) -> Measured:
        """See `Floor`."""
        return loops.run(self._run())

    async def _run(self) -> Measured:
        async def run(number: int) -> int:
            return int(await self._workload.workflow(number))

        settle_garbage()
        with timed() as watch:
            latencies = await drive(self._workload, run, self._count)
        return Measured(seconds=watch.seconds, cpu_seconds=watch.cpu_seconds, latencies=tuple(latencies))


def record(workload: Workload, store: Store, url: str, count: int, *, in_flight: int | None = None) -> Tape:
    """Run a workload on the engine in this new store, and keep what it wrote."""
    tape = Tape()
    make_store(url)
    with store.recording(tape):
        measure_engine(workload, url, count, in_flight=in_flight, begin=tape.begin, done=tape.done)
    return tape


def written_alone(workload: Workload, store: Store) -> Written:
    """What a workflow writes when it has the store to itself: no other shares its commits."""
    with store.new() as url:
        return written(record(workload, store, url, ALONE_WORKFLOWS, in_flight=1))
