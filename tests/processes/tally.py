"""What activities really did, whatever the engine believes: a file of lines that all processes append to."""

from __future__ import annotations

import os
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

VARIABLE = "TESTS_PROCESSES_TALLY"  # tells a worker process where it is


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A call of an activity has begun or ended. ``key`` names the activity, ``stamp`` the call."""

    fact: str
    key: str
    stamp: str
    pid: int
    at_ns: int


def write(fact: str, key: str, stamp: str) -> None:
    """One write to a file opened for appending is whole, or absent when the process is killed."""
    line = f"{fact} {key} {stamp} {os.getpid()} {time.time_ns()}\n"
    file = os.open(os.environ[VARIABLE], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(file, line.encode())
    finally:
        os.close(file)


class Tally:
    """The lines so far. `look` reads what is new."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines: list[Line] = []
        self._offset = 0

    def look(self) -> int:
        """How many lines there are now."""
        if self.path.exists():
            with self.path.open("rb") as file:
                file.seek(self._offset)
                whole, newline, _ = file.read().rpartition(b"\n")
            self._offset += len(whole) + len(newline)
            self.lines += [_line(text) for text in whole.decode().splitlines()]
        return len(self.lines)

    def calls(self) -> dict[str, list[Line]]:
        """The beginnings of each activity's calls, by its key."""
        self.look()
        found: dict[str, list[Line]] = defaultdict(list)
        for line in self.lines:
            if line.fact == "begun":
                found[line.key].append(line)
        return found

    def ended(self) -> set[str]:
        """The stamps of the calls that came to their end."""
        self.look()
        return {line.stamp for line in self.lines if line.fact == "ended"}


def _line(text: str) -> Line:
    fact, key, stamp, pid, at_ns = text.split()
    return Line(fact=fact, key=key, stamp=stamp, pid=int(pid), at_ns=int(at_ns))
