"""CPU time and memory of other processes, as the kernel tells them (Linux)."""

from __future__ import annotations

import os
from pathlib import Path

_PROC = Path("/proc")


def cpu_seconds(pid: int) -> float:
    """Of a process with its threads, and of its children that have ended and were waited for."""
    return sum(_fields(pid)[11:15]) / os.sysconf("SC_CLK_TCK")


def cpu_seconds_of_family(pid: int) -> float:
    """Of a process, its children and theirs."""
    families: dict[int, list[int]] = {}
    for one in (int(entry.name) for entry in _PROC.iterdir() if entry.name.isdigit()):
        try:
            families.setdefault(_fields(one)[1], []).append(one)
        except OSError:
            continue  # it has just ended
    found, waiting = 0.0, [pid]
    while waiting:
        one = waiting.pop()
        waiting += families.get(one, ())
        try:
            found += cpu_seconds(one)
        except OSError:
            continue
    return found


def _fields(pid: int) -> list[int]:
    """What stands in ``stat`` behind the name, which may have blanks in it; the state counts as 0."""
    words = (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    return [0, *(int(word) for word in words[1:])]
