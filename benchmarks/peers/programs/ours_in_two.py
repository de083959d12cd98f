"""This project in two processes: each has a client, a worker and half of what is in flight; the store is one.

This process only makes the store, starts the two, lets both begin when both are warm, and joins their readings. What
it started ends with it: a process of the two neither begins nor stays when its input has ended.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

from benchmarks.engine import make_store

PROCESSES = 2
PROGRAM = "benchmarks.peers.programs.ours"
END_SECONDS = 10.0

Process = subprocess.Popen[str]


class Failed(Exception):
    """One of the processes ended early. Why, it has said itself on stderr."""


def main(job: Mapping[str, Any]) -> None:
    """Print the line of readings, or end with 1 behind what the process that failed has said."""
    make_store(job["url"])
    part = {**job, "in_flight": job["in_flight"] // PROCESSES, "together": True}
    command = [sys.executable, "-m", PROGRAM, json.dumps(part)]
    try:
        found = together([command] * PROCESSES)
    except Failed:
        sys.exit(1)  # the last line on stderr stays the process's own: it names the round's problem
    print("READINGS " + json.dumps(joined(found)), flush=True)


def together(commands: Sequence[Sequence[str]]) -> list[dict[str, Any]]:
    """Readings of each: all begin when all are warm, and none ends before all are done. Raises `Failed`."""
    with ExitStack() as stack:
        processes = [stack.enter_context(_started(command)) for command in commands]
        _hear(processes, "WARM")
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("begin\n")
            process.stdin.flush()
        return [json.loads(said) for said in _hear(processes, "READINGS ")]


def joined(found: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """All as one: the time is from the common begin to the last that was done."""
    began = min(one["began"] for one in found)
    return {
        "seconds": max(one["began"] + one["seconds"] for one in found) - began,
        "latencies": [latency for one in found for latency in one["latencies"]],
    }


@contextmanager
def _started(command: Sequence[str]) -> Iterator[Process]:
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
            process.communicate(timeout=END_SECONDS)
        finally:
            process.kill()


def _hear(processes: Sequence[Process], word: str) -> list[str]:
    """The rest of a line from each, which begins so."""
    found = []
    for process in processes:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line.startswith(word):
            with suppress(subprocess.TimeoutExpired):
                process.communicate(timeout=END_SECONDS)  # it may still be saying why
            raise Failed
        found.append(line.removeprefix(word))
    return found


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
