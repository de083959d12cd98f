"""The analyser as a plugin of flake8: ``DUR`` codes, one file at a time.

flake8 looks at each file by itself, so what a workflow reaches in another file is told at the line of this file that
leads there. ``# durable: ok - reason`` silences here too, beside flake8's own ``# noqa``.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import ClassVar

from durable.lint.findings import Finding
from durable.lint.reach import lint


class Plugin:
    """What flake8 makes for each file, and asks to `run`."""

    name: ClassVar[str] = "durable"
    version: ClassVar[str] = version("durable-engine")

    def __init__(self, tree: ast.AST, filename: str = "-", lines: list[str] | None = None) -> None:
        self._filename = filename
        self._lines = lines

    def run(self) -> Iterator[tuple[int, int, str, type[Plugin]]]:
        """Line, column, text and plugin of each finding."""
        path = Path(self._filename)
        if self._lines is None and not path.is_file():
            return
        sources = None if self._lines is None else {path: "".join(self._lines)}
        for finding in lint([path], sources=sources):
            line, column = _here(finding, path.resolve())
            if line:
                yield line, column, _text(finding, path.resolve()), type(self)


def _here(finding: Finding, path: Path) -> tuple[int, int]:
    if finding.path == path:
        return finding.line, finding.column
    return next(((step.line, 0) for step in reversed(finding.way) if step.path == path), (0, 0))


def _text(finding: Finding, path: Path) -> str:
    elsewhere = "" if finding.path == path else f" ({finding.path.name}:{finding.line})"
    return f"{finding.message}{elsewhere}"
