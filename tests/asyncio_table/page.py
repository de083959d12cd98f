"""Writes ``docs/reference/asyncio.md``: ``python -m tests.asyncio_table.page``."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path

from tests.asyncio_table import anyio_cases, asyncio_cases  # noqa: F401 - they fill the table
from tests.asyncio_table.table import Case, lines

PAGE = Path(__file__).resolve().parents[2] / "docs/reference/asyncio.md"

_HEAD = """\
# asyncio and anyio in a workflow

Every public name of asyncio and anyio, and what it does in the code of a workflow:

- **works**: it does what it does everywhere. The order in which things happen is the order of the history, also in
  another process and under another hash seed.
- **raises**: it raises at once, and never hangs; in most cases `durable.ForbiddenInWorkflow`, with a sentence that says
  what to do instead.
- *not applicable*: nothing a workflow has a use for, such as the base class of a transport. Looking at it is harmless.

Activities and all other code have asyncio and anyio as they are.

Each line is backed by a test, made from the same cases as this page (`tests/asyncio_table`), which runs the name in a
workflow, replays it from every point of its history, and replays it in another process under another hash seed, on
Python 3.11, 3.12 and 3.13. Do not edit this page: `python -m tests.asyncio_table.page` writes it."""

_VERDICTS = {"works": "works", "raises": "**raises**", "not applicable": "*not applicable*"}


def text() -> str:
    """The page, the same on every Python."""
    parts = [_HEAD]
    for module, found in groupby(lines(), key=lambda line: line[1].module):
        parts += [f"\n## {module}\n", "| name | in a workflow | |", "|---|---|---|"]
        by_name: dict[str, list[Case]] = {}
        for name, case in found:
            by_name.setdefault(name, []).append(case)
        parts += [_row(name, by_name[name]) for name in sorted(by_name, key=str.lower)]
    return "\n".join(parts) + "\n"


def _row(name: str, cases: list[Case]) -> str:
    verdicts = {case.verdict for case in cases}
    assert len(verdicts) == 1, f"{name} has several verdicts: {verdicts}"
    notes = [_limits(cases), *dict.fromkeys(case.note for case in cases)]
    if verdicts == {"raises"} and not any(case.note for case in cases):
        notes.append("Do it in an activity.")
    return f"| `{name}` | {_VERDICTS[cases[0].verdict]} | {' '.join(note for note in notes if note)} |"


def _limits(cases: list[Case]) -> str:
    since, until = min(case.since for case in cases), max(case.until for case in cases)
    words = []
    if since > (3, 11):
        words.append(f"from Python {since[0]}.{since[1]} on")
    if until < (3, 99):
        words.append(f"up to Python {until[0]}.{until[1]}")
    return f"({', '.join(words)})" if words else ""


if __name__ == "__main__":
    PAGE.write_text(text())
