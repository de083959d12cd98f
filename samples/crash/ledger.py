"""The ledger: what activities really did, whatever the engine believes. A text file that every process appends to."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One fact: a call of a step has begun or ended, in which process, with which token of its workflow."""

    fact: str
    instance_id: str
    step: int
    token: str
    pid: int


def write(path: Path, fact: str, instance_id: str, step: int, token: str) -> None:
    """Append a line: one write to a file opened for appending is whole or absent when the process is killed."""
    line = f"{fact} {instance_id} {step} {token} {os.getpid()}\n"
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(file, line.encode())
    finally:
        os.close(file)


def read(path: Path) -> list[Line]:
    """All lines, oldest first; none if nothing has been written yet."""
    if not path.exists():
        return []
    return [_line(text) for text in path.read_text().splitlines()]


def _line(text: str) -> Line:
    fact, instance_id, step, token, pid = text.split()
    return Line(fact=fact, instance_id=instance_id, step=int(step), token=token, pid=int(pid))
