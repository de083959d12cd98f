"""The documentation tells the truth: its code runs, its output is the output, its links and names exist.

A page is one program. Its ``python`` blocks run in order, in one namespace, in a process and a folder of their own.
Three comments, on the line before a block, say otherwise:

    <!-- not run: reason -->   the block is only shown; the test of it is skipped with that reason
    <!-- file: name.py -->     the block is a file in that folder, which later blocks may import or start
    <!-- prints -->            the ``text`` block that follows is the output of the blocks up to there, to the letter

Every line keeps its number, so a traceback points into the page.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

import durable

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
SECONDS = 60
_MARK = re.compile(r"<!-- (?:(not run|file): (.+)|(prints)) -->")


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A fenced block: its language, the number of its first line (from 1), and the mark before it, if any."""

    language: str
    line: int
    text: str
    mark: str
    argument: str

    @property
    def runs(self) -> bool:
        return self.language == "python" and self.mark == ""


def _blocks(page: str) -> list[Block]:
    found: list[Block] = []
    begun, language, mark = 0, "", re.match("", "")
    before = ""
    for number, line in enumerate(page.splitlines(), 1):
        if line.startswith("```") and not begun:
            begun, language, mark = number + 1, line[3:].strip(), _MARK.fullmatch(before.strip())
        elif line.startswith("```"):
            text = "\n".join(page.splitlines()[begun - 1 : number - 1])
            kind, argument = ((mark[1] or mark[3]), mark[2] or "") if mark else ("", "")
            found.append(Block(language=language, line=begun, text=text, mark=kind, argument=argument))
            begun = 0
        if line.strip():
            before = line
    assert not begun, f"the block that begins in line {begun} does not end"
    return found


def _program(blocks: list[Block]) -> str:
    lines: list[str] = []
    for block in blocks:
        lines += [""] * (block.line - 1 - len(lines)) + block.text.split("\n")
    return "\n".join(lines) + "\n"


def _run(page: str, folder: Path) -> tuple[str, str]:
    """What the page's program prints, and what the page says that it prints. Fails with the traceback."""
    blocks = _blocks(page)
    for block in blocks:
        if block.mark == "file":
            (folder / block.argument).write_text(_program([block]))
    (folder / "page.py").write_text(_program([block for block in blocks if block.runs]))
    ran = subprocess.run(
        [sys.executable, "-W", "error", "page.py"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout, "".join(block.text + "\n" for block in blocks if block.mark == "prints")


def _name(page: Path) -> str:
    return str(page.relative_to(ROOT))


# ------------------------------------------------------------------------------------------------- the test's own test

PLANTED = """
```python
x = 1
```
<!-- not run: it would fail -->

```python
raise SystemExit("not this one")
```
<!-- file: other.py -->
```python
y = 2
```
```python
import other
print(x + other.y)
```
<!-- prints -->
```text
3
```
"""


def test_a_page_is_one_program(tmp_path: Path) -> None:
    assert _run(PLANTED, tmp_path) == ("3\n", "3\n")


def test_a_block_that_raises_is_seen_in_its_line(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=r'(?s)page\.py", line 16.*NameError'):
        _run(PLANTED.replace("print(x", "print(z"), tmp_path)


def test_a_block_that_does_not_end_is_seen() -> None:
    with pytest.raises(AssertionError, match="line 3"):
        _blocks("\n```python\nx = 1\n")


# ------------------------------------------------------------------------------------------------------------ the pages


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_the_code_of_the_page_runs_and_prints_what_it_says(page: Path, tmp_path: Path) -> None:
    printed, said = _run(page.read_text(), tmp_path)
    assert printed == said


NOT_RUN = [
    pytest.param(block.argument, id=f"{_name(page)}:{block.line}")
    for page in PAGES
    for block in _blocks(page.read_text())
    if block.language == "python" and block.mark == "not run"
]


@pytest.mark.parametrize("reason", NOT_RUN)
def test_block_that_is_only_shown(reason: str) -> None:
    pytest.skip(reason)


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_the_links_of_the_page_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)(?:#[^)\s]*)?\)", page.read_text())
    missing = [link for link in links if "://" not in link and not (page.parent / link).exists()]
    assert missing == []


def test_the_ten_lines_are_those_of_the_sample() -> None:
    sample = (ROOT / "samples" / "quickstart.py").read_text()
    ten_lines = sample[sample.index("import asyncio, durable") :]
    shown = [block.text for block in _blocks((ROOT / "README.md").read_text()) if block.runs]
    assert shown[0] + "\n" == ten_lines


def test_every_make_target_that_is_named_exists() -> None:
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for page in PAGES:
        named = set(re.findall(r"(?:^    |`|\$ )make (\w+)", page.read_text(), re.MULTILINE))
        assert named <= targets, _name(page)


@pytest.mark.parametrize("name", sorted(durable.__all__))
def test_every_public_name_is_in_the_reference(name: str) -> None:
    reference = "".join(page.read_text() for page in PAGES if "reference" in page.parts)
    assert re.search(rf"`(?:async with |await )?(?:@?durable\.)?{name}\b", reference)


def test_no_page_speaks_of_a_name_that_is_not_there() -> None:
    missing = {
        f"{_name(page)}: durable.{name}"
        for page in PAGES
        for name in re.findall(r"\bdurable\.([A-Za-z_]\w*)", page.read_text())
        if not hasattr(durable, name) and name not in _NOT_NAMES
    }
    assert missing == set()


# The default file, a logger of the engine, and modules that `import durable` does not load.
_NOT_NAMES = {"db", "testing", "workflow", "backends", "cli"}
