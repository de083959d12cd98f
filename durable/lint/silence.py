"""Comments that silence a finding: ``# durable: ok - reason``, on its line or on a line of their own above it."""

from __future__ import annotations

import io
import re
import tokenize
from dataclasses import dataclass

_SILENCE = re.compile(r"#\s*durable:\s*ok\b[\s\-:\u2013\u2014]*(?P<reason>.*)$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Silences:
    """The silenced lines of a file, and where a reason is missing (line and column)."""

    lines: frozenset[int]
    without_reason: tuple[tuple[int, int], ...]

    def cover(self, first: int, last: int) -> bool:
        return any(line in self.lines for line in range(first, last + 1))


def silences_of(source: str) -> Silences:
    """Read the comments of a file."""
    silenced: set[int] = set()
    without: list[tuple[int, int]] = []
    alone: list[int] = []
    for token in _tokens(source):
        if token.type == tokenize.COMMENT and (match := _SILENCE.search(token.string)):
            line, column = token.start
            if not match["reason"].strip():
                without.append((line, column))
            elif token.line[:column].strip():
                silenced.add(line)
            else:
                alone.append(line)
        elif alone and token.type not in (tokenize.COMMENT, tokenize.NL):
            silenced.add(token.start[0])
            alone.clear()
    return Silences(lines=frozenset(silenced), without_reason=tuple(without))


def _tokens(source: str) -> list[tokenize.TokenInfo]:
    try:
        return list(tokenize.generate_tokens(io.StringIO(source).readline))
    except (tokenize.TokenError, IndentationError, SyntaxError):
        return []
