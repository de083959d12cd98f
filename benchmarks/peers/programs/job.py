"""What all programs have in common: the job, the lanes that keep so many workflows in flight, the line of readings.

Only the standard library: it is imported in the environments of the peers.
"""

from __future__ import annotations

import asyncio
import json
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any

STEPS = 10
WIDTH = 100
WARM_UP = 5
JOB: dict[str, Any] = json.loads(sys.argv[1]) if len(sys.argv) > 1 else {}
"""``workload``, ``in_flight``, ``seconds``, and what else a peer needs: ``url``, ``folder``, ``server``."""

EXPECTED: dict[str, Callable[[int], int]] = {
    "W1": lambda number: number + 1,
    "W2": lambda number: number + STEPS,
    "W3": lambda number: WIDTH * (number + 1) + sum(range(WIDTH)),
    "W4": lambda number: number + 1,
}


class Readings:
    """Of one round. A result that is wrong is an error: a figure for work that was not done is worth nothing."""

    def __init__(self) -> None:
        self.latencies: list[float] = []
        self.began = time.perf_counter()
        self.until = self.began + JOB["seconds"]
        self._number = 0
        self._lock = threading.Lock()

    def next_number(self) -> int | None:
        """The next workflow's, or ``None`` when time is up."""
        if time.perf_counter() >= self.until:
            return None
        with self._lock:
            self._number += 1
            return self._number

    def done(self, number: int, began: float, result: Any) -> None:
        """A result is in hand."""
        check(number, result)
        self.latencies.append(time.perf_counter() - began)

    def say(self) -> None:
        """All workflows that were begun are done: print the line."""
        seconds = time.perf_counter() - self.began
        print("READINGS " + json.dumps({"seconds": seconds, "latencies": self.latencies}), flush=True)


def check(number: int, result: Any) -> None:
    """Raises ``ValueError`` for a wrong result."""
    if result != EXPECTED[JOB["workload"]](number):
        raise ValueError(f"{JOB['workload']} number {number} gave {result!r}")


async def measure(run: Callable[[int], Awaitable[Any]]) -> None:
    """``run``: the number of a workflow -> its result."""
    for number in range(WARM_UP):
        check(number, await run(number))
    readings = Readings()

    async def lane() -> None:
        while (number := readings.next_number()) is not None:
            began = time.perf_counter()
            readings.done(number, began, await run(number))

    await asyncio.gather(*(lane() for _ in range(JOB["in_flight"])))
    readings.say()


def measure_in_threads(run: Callable[[int], Any]) -> None:
    """The same for peers whose calls block: a thread a lane."""
    for number in range(WARM_UP):
        check(number, run(number))
    readings = Readings()
    problems: list[BaseException] = []

    def lane() -> None:
        try:
            while (number := readings.next_number()) is not None:
                began = time.perf_counter()
                readings.done(number, began, run(number))
        except BaseException as problem:
            problems.append(problem)

    threads = [threading.Thread(target=lane) for _ in range(JOB["in_flight"])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if problems:
        raise problems[0]
    readings.say()
