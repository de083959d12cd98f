"""Ours, ours in two processes, peer, ...; again and again. Each round is a process of its own, with a new store."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.conditions import Conditions, noted
from benchmarks.peers.contestants import Contestant
from benchmarks.peers.environments import python_of, restate_server
from benchmarks.stores.serving import Serving

PROGRAMS = Path(__file__).parent / "programs"
ROOT = Path(__file__).parent.parent.parent
PATIENCE_SECONDS = 30.0
"""A round that takes so much longer than it should, with start and end, has come to a halt."""


class Broken(Exception):
    """A program failed. The text is the end of what it printed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Readings:
    """One round. ``latencies``: seconds, one a workflow that was done."""

    seconds: float
    latencies: tuple[float, ...]

    @property
    def rate(self) -> float:
        """Workflows a second."""
        return len(self.latencies) / self.seconds


@dataclass(slots=True, kw_only=True)
class Line:
    """A contestant with so many in flight, and its rounds. ``problem``: why there are no more of them."""

    contestant: Contestant
    workload: str
    in_flight: int
    rounds: list[Readings] = field(default_factory=list)
    problem: str | None = None
    conditions: Conditions | None = None


def alternate(
    workload: str,
    contestants: Sequence[Contestant],
    rounds: int,
    seconds: float,
    postgres: Callable[[], Serving],
) -> list[Line]:
    """Measure a workload on all of them. A contestant that fails is left out of the rounds that follow."""
    lines = [
        Line(contestant=one, workload=workload, in_flight=load)
        for one in contestants
        for load in one.loads(workload)
    ]
    with noted() as conditions:
        for _ in range(rounds):
            for line in lines:
                if line.problem is None:
                    _round(line, seconds, postgres)
    for line in lines:
        line.conditions = conditions
    return lines


def _round(line: Line, seconds: float, postgres: Callable[[], Serving]) -> None:
    try:
        line.rounds.append(_measured(line, seconds, postgres))
    except Exception as problem:  # of whatever kind: one peer does not spoil the others' run
        line.problem = str(problem).strip().rpartition("\n")[2] or repr(problem)


def _measured(line: Line, seconds: float, postgres: Callable[[], Serving]) -> Readings:
    one = line.contestant
    with tempfile.TemporaryDirectory(prefix="durable-peers-") as folder, _url(one, folder, postgres) as url:
        job = {
            "workload": line.workload,
            "in_flight": line.in_flight,
            "seconds": seconds,
            "url": url,
            "folder": folder,
            "server": str(restate_server()) if one.name == "restate" else None,
        }
        return _run(one, job)


@contextmanager
def _url(one: Contestant, folder: str, postgres: Callable[[], Serving]) -> Iterator[str]:
    if one.store == "postgres":
        with postgres().new() as url:
            yield url
    elif one.store == "sqlite":
        yield f"sqlite:///{folder}/bench.db"
    else:
        yield "memory://"


def _run(one: Contestant, job: dict[str, object]) -> Readings:
    if one.environment is None:
        module = f"benchmarks.peers.programs.{Path(one.program).stem}"
        command = [str(python_of(one)), "-m", module, json.dumps(job)]
    else:
        command = [str(python_of(one)), str(PROGRAMS / one.program), json.dumps(job)]
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    out, problem = _output(command, environ, PATIENCE_SECONDS + float(str(job["seconds"])))
    for line in out.splitlines():
        if line.startswith("READINGS "):
            found = json.loads(line.removeprefix("READINGS "))
            return Readings(seconds=found["seconds"], latencies=tuple(found["latencies"]))
    raise Broken((problem or out).strip()[-300:] or "it printed nothing")


def _output(command: Sequence[str], environ: dict[str, str], patience: float) -> tuple[str, str]:
    """What a program prints. Its processes end with it, also those that it leaves behind."""
    program = subprocess.Popen(
        command,
        cwd=ROOT,
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        return program.communicate(timeout=patience)
    except subprocess.TimeoutExpired:
        return "", f"it was not done after {patience:.0f} s"
    finally:
        with suppress(ProcessLookupError):
            os.killpg(program.pid, signal.SIGKILL)
        program.wait()
