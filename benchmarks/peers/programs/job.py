"""What all programs have in common: the job, the lanes that keep so many workflows in flight, the line of readings.

Only the standard library: it is imported in the environments of the peers.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any, NoReturn

STEPS = 10
WIDTH = 100
WARM_UP = 5
HOUR_SECONDS = 3600
"""How long the workflows of W5 would sleep."""
LOOK_SECONDS = 0.01
BACKLOG = 200
"""So many may be started and not yet asleep: without a limit, some only start, and run nothing until time is up."""
JOB: dict[str, Any] = json.loads(sys.argv[1]) if len(sys.argv) > 1 else {}
"""``workload``, ``in_flight``, ``seconds``, and what else a peer needs: ``url``, ``folder``, ``server``.
``together``: this is one of several processes that are measured as one.
"""

EXPECTED: dict[str, Callable[[int], int]] = {
    "W1": lambda number: number + 1,
    "W2": lambda number: number + STEPS,
    "W3": lambda number: WIDTH * (number + 1) + sum(range(WIDTH)),
    "W4": lambda number: number + 1,
    "W5": lambda number: None,
}


class Readings:
    """Of one round. A result that is wrong is an error: a figure for work that was not done is worth nothing."""

    def __init__(self) -> None:
        self.latencies: list[float] = []
        self.began = time.perf_counter()
        self.until = self.began + JOB["seconds"]
        self.asleep = 0
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

    def all_asleep(self, asleep: int) -> bool:
        """So many are by now: is it over?"""
        self.asleep = asleep
        return time.perf_counter() >= self.until and asleep >= self._number

    def say(self) -> None:
        """All workflows that were begun are done: print the line."""
        seconds = time.perf_counter() - self.began
        # ``began`` is of a clock that all processes of the machine share.
        found = {"began": self.began, "seconds": seconds, "latencies": self.latencies}
        print("READINGS " + json.dumps(found), flush=True)


def check(number: int, result: Any) -> None:
    """Raises ``ValueError`` for a wrong result."""
    if result != EXPECTED[JOB["workload"]](number):
        raise ValueError(f"{JOB['workload']} number {number} gave {result!r}")


async def measure_starts(
    start: Callable[[], Awaitable[Any]],
    asleep: Callable[[], Awaitable[int]],
    end: Callable[[], None] = lambda: None,
) -> NoReturn:
    """W5: as many starts as there is time for, and the time until all of them sleep; then this process ends.

    ``start`` begins a workflow that sleeps for an hour, ``asleep`` says how many do by now, ``end`` ends what else was
    started.
    """
    for _ in range(WARM_UP):
        await start()
    while await asleep() < WARM_UP:  # noqa: ASYNC110
        await asyncio.sleep(LOOK_SECONDS)
    readings = Readings()

    async def lane() -> None:
        while (number := readings.next_number()) is not None:
            while number - readings.asleep > BACKLOG:  # noqa: ASYNC110
                await asyncio.sleep(LOOK_SECONDS)
            began = time.perf_counter()
            await start()
            readings.done(number, began, None)

    async def look() -> None:
        while not readings.all_asleep(await asleep() - WARM_UP):  # noqa: ASYNC110
            await asyncio.sleep(LOOK_SECONDS)

    await asyncio.gather(look(), *(lane() for _ in range(JOB["in_flight"])))
    readings.say()
    end()
    os._exit(0)


def measure_starts_in_threads(start: Callable[[], Any], asleep: Callable[[], int]) -> NoReturn:
    """The same for peers whose calls block."""
    for _ in range(WARM_UP):
        start()
    while asleep() < WARM_UP:
        time.sleep(LOOK_SECONDS)
    readings = Readings()

    def run(number: int) -> None:
        while number - readings.asleep > BACKLOG:
            time.sleep(LOOK_SECONDS)
        start()

    def look() -> None:
        while not readings.all_asleep(asleep() - WARM_UP):
            time.sleep(LOOK_SECONDS)

    looking = threading.Thread(target=look)
    looking.start()
    in_lanes(run, readings)
    looking.join()
    readings.say()
    os._exit(0)


async def measure(run: Callable[[int], Awaitable[Any]]) -> None:
    """``run``: the number of a workflow -> its result.

    One of several processes waits twice for a line on its input: warm, for the common begin, and done, for the common
    end, since its worker may have in hand what another's client waits for.
    """
    for number in range(WARM_UP):
        check(number, await run(number))
    if JOB.get("together"):
        print("WARM", flush=True)
        if not await asyncio.to_thread(sys.stdin.readline):
            raise EOFError("who was to say when to begin has ended")
    readings = Readings()

    async def lane() -> None:
        while (number := readings.next_number()) is not None:
            began = time.perf_counter()
            readings.done(number, began, await run(number))

    await asyncio.gather(*(lane() for _ in range(JOB["in_flight"])))
    readings.say()
    if JOB.get("together"):
        await asyncio.to_thread(sys.stdin.readline)


def measure_in_threads(run: Callable[[int], Any]) -> None:
    """The same for peers whose calls block: a thread a lane."""
    for number in range(WARM_UP):
        check(number, run(number))
    in_lanes(run, Readings()).say()


def in_lanes(run: Callable[[int], Any], readings: Readings) -> Readings:
    """Threads that run one after the other, until time is up."""
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
    return readings
