"""The messages in the code, as far as they are constant: what people search for when they read one in a log."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent.parent / "durable"
ERRORS = {"BackendError", "TooLarge", "WorkerLost"}
LOGS = {"warning", "error", "exception"}
TABLES = {"_HINTS", "_ADVICE", "_POOLER"}
STALL, STALL_TEXT = "_stall", 2
SHORTEST = 12


def messages(folder: str) -> Iterator[tuple[str, str]]:
    """Of each message in the modules of a part: where it is, and one of its constant pieces."""
    for path in sorted((PACKAGE / folder).rglob("*.py")) or [PACKAGE / folder]:
        errors = ERRORS | ({"ValueError"} if path.name == "address.py" else set())
        for node in ast.walk(ast.parse(path.read_text())):
            for text in _texts(node, errors):
                for piece in _pieces(text):
                    if len(piece) >= SHORTEST:
                        yield f"{path.relative_to(PACKAGE)}:{text.lineno}", piece


def _texts(node: ast.AST, errors: set[str]) -> Iterator[ast.expr]:
    if isinstance(node, ast.Call) and node.args:
        name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
        if name in errors or (name in LOGS and "log" in ast.unparse(node.func)):
            yield node.args[0]
        if name == STALL and len(node.args) > STALL_TEXT:
            yield node.args[STALL_TEXT]
    if (
        isinstance(node, ast.Assign)
        and {one.id for one in node.targets if isinstance(one, ast.Name)} & TABLES
    ):
        yield from node.value.values if isinstance(node.value, ast.Dict) else [node.value]


def _pieces(text: ast.expr) -> Iterator[str]:
    """What stands between the values that are filled in."""
    parts = text.values if isinstance(text, ast.JoinedStr) else [text]
    for part in parts:
        if isinstance(part, ast.Constant) and isinstance(part.value, str):
            yield from _split(part.value)


def _split(text: str) -> Iterator[str]:
    for mark in (
        "%s",
        "%r",
        "%.1f",
        "%.2f",
        "{who}",
        "{text}",
        "{user!r}",
        "{database!r}",
        "{schema!r}",
        "(",
        "\n",
    ):
        text = text.replace(mark, "\0")
    for piece in text.split("\0"):
        yield piece.strip(" :;,.)'")
