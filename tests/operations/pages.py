"""The statements and commands that a page of the documentation shows, so that tests run those and no others."""

from __future__ import annotations

import re
from pathlib import Path

PAGES = Path(__file__).resolve().parent.parent.parent / "docs" / "how-to"
_BLOCK = re.compile(
    r"(?:^<!-- (?P<mark>[^\n]+) -->\n+)?^```(?P<language>\w+)\n(?P<text>.*?)^```$", re.M | re.S
)


def blocks(page: str, language: str, mark: str | None = None) -> list[str]:
    """The texts of the fenced blocks of a language; with a mark, of those that have it in the comment above."""
    text = (PAGES / page).read_text()
    found = [one for one in _BLOCK.finditer(text) if one["language"] == language]
    return [one["text"] for one in found if mark is None or one["mark"] == mark]


def statements(page: str, mark: str | None = None) -> list[str]:
    """The statements of the page's ``sql`` blocks, without their semicolons and comments."""
    lines = [line.partition("--")[0].rstrip() for line in "\n".join(blocks(page, "sql", mark)).splitlines()]
    return [one.strip() for one in "\n".join(lines).split(";") if one.strip()]
