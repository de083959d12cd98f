"""Replaying in other processes, where strings hash differently: what iterates a set of strings is found out there.

The processes are started when they are first needed and live as long as the session of tests, since a start costs more
than all replays together. The parent's side is here, the child's in `durable.testing.replay_child`.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from typing import Any

from durable.primitives.workflow import Workflow

SEEDS = ("1", "2")
"""Two strings in a set are in the same order in half of all processes, so one other process is not enough."""

_BOOT = "import sys; sys.path[:] = sys.argv[1:]; from durable.testing.replay_child import main; main()"


class OtherProcesses:
    """Processes with other hash seeds. Close them after use. ``missing`` says which workflows they could not find."""

    def __init__(self) -> None:
        self.missing: dict[str, str] = {}
        self._children: list[subprocess.Popen[bytes]] = []

    def replay(self, workflow: Workflow[..., Any], text: str) -> str | None:
        """The report of a divergence; ``None`` if there is none, or if no other process can find the workflow.

        It is found by the name of its module, or by its file: one that is defined inside of a function is not.
        """
        fn = workflow.definition.fn
        place = f"{fn.__module__}.{fn.__qualname__}"
        if "<locals>" in fn.__qualname__ or fn.__module__ == "__main__":
            self.missing[place] = "it is not at the top of a module"
            return None
        asked = {
            "module": fn.__module__,
            "qualname": fn.__qualname__,
            "file": fn.__code__.co_filename,
            "name": workflow.definition.name,
            "version": workflow.definition.version,
            "text": text,
        }
        line = json.dumps(asked).encode() + b"\n"
        for child in self._started():
            self._tell(child, line)
        # All of them are heard: an answer that is left would be taken for the next one's.
        answers = [self._hear(child) for child in self._children]
        for _, missing in answers:
            if missing is not None:
                self.missing[place] = missing
        return next((report for report, _ in answers if report is not None), None)

    def close(self) -> None:
        """End the processes."""
        for child in self._children:
            with contextlib.suppress(OSError):
                child.communicate()  # its input ends, and so does it
        self._children.clear()

    def _started(self) -> list[subprocess.Popen[bytes]]:
        if not self._children:
            self._children = [_child(seed) for seed in SEEDS]
        return self._children

    @staticmethod
    def _tell(child: subprocess.Popen[bytes], line: bytes) -> None:
        assert child.stdin is not None
        child.stdin.write(line)
        child.stdin.flush()

    @staticmethod
    def _hear(child: subprocess.Popen[bytes]) -> tuple[str | None, str | None]:
        assert child.stdout is not None
        line = child.stdout.readline()
        if not line:
            raise RuntimeError(f"the process that replays under another hash seed has ended ({child.wait()})")
        report, missing = json.loads(line)
        return report, missing


def _child(seed: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", _BOOT, *sys.path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONHASHSEED": seed},
    )
