"""Frozen histories: files that later code must still follow, for ever.

A file is the text of `Client.export_history`: a line about the run, then one for each event. Its name is
``<workflow>[-<version>]/<what the test was called>.history``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import orjson

from durable.primitives.workflow import Workflow
from durable.testing.environment import Recorded
from durable.testing.replayer import replay

SUFFIX = ".history"


def freeze(folder: Path | str, recorded: Iterable[Recorded], name: str) -> list[Path]:
    """Write each run to a file of its own in ``folder``, and give the files. ``name`` says what the runs were of.

    A run of a mocked workflow is left out. A file that exists is kept as it is: what was frozen stays.
    """
    written = []
    for number, run in enumerate((run for run in recorded if run.workflow is not None), 1):
        path = Path(folder) / _safe(run.name) / f"{_safe(name)}-{number}{SUFFIX}"
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            path.write_text(run.text + "\n")
        written.append(path)
    return written


def frozen(folder: Path | str) -> Iterator[tuple[Path, str]]:
    """The frozen histories below ``folder``, in order: the file, and the name of the workflow."""
    for path in sorted(Path(folder).rglob(f"*{SUFFIX}")):
        with path.open("rb") as file:
            header = orjson.loads(file.readline())
        yield path, header["workflow"]


def replay_frozen(folder: Path | str, workflows: Iterable[Workflow[..., Any]]) -> int:
    """Replay every history below ``folder`` with the workflow of its name and version; gives how many there were.

    Raises what `durable.testing.replay` raises, with the file named, and ``LookupError`` for a history whose workflow
    is not among ``workflows``.
    """
    known = {(one.definition.name, one.definition.version): one for one in workflows}
    count = 0
    for path, _ in frozen(folder):
        text = path.read_text()
        header = orjson.loads(text.partition("\n")[0])
        workflow = known.get((header["workflow"], header.get("version", "")))
        if workflow is None:
            raise LookupError(f"{path} is of workflow {header['workflow']!r}, which is not among those given")
        try:
            replay(workflow, text)
        except Exception as error:
            error.add_note(f"the history is {path}")
            raise
        count += 1
    return count


def _safe(name: str) -> str:
    return re.sub(r"[^\w.-]+", "-", name).strip("-")[:100] or "unnamed"
