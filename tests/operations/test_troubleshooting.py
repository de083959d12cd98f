"""docs/how-to/troubleshoot.md knows every message that the code has."""

from __future__ import annotations

import re

import pytest

from durable.backends.sql import changes
from tests.operations.messages import messages
from tests.operations.pages import PAGES

FOLDERS = [
    *("backends/postgres", "backends/mysql", "backends/sql", "backends/sqlite", "backends/batches.py"),
    *("worker", "client", "core/watchdog.py", "primitives/signal.py"),
]
ELSEWHERE = {
    "the server has no function": "scale-out.md has it",
    "CREATE EXTENSION citus, or name one that has it": "scale-out.md has it",
}


def _plain(text: str) -> str:
    return re.sub(r"[\s`…]+", " ", text).casefold()


@pytest.mark.parametrize("folder", FOLDERS)
def test_the_page_has_every_message(folder: str) -> None:
    page = _plain((PAGES / "troubleshoot.md").read_text())
    found = list(messages(folder))
    assert found, folder
    missing = [
        f"{where}: {piece}" for where, piece in found if _plain(piece) not in page and piece not in ELSEWHERE
    ]
    assert missing == []


def test_a_run_that_was_claimed_ten_times_is_on_the_page() -> None:
    assert "times without a checkpoint, last by worker" in (PAGES / "troubleshoot.md").read_text()
    assert changes.MAX_CLAIMS == 10


def test_messages_are_found() -> None:
    found = {piece for _, piece in messages("backends/postgres")}
    assert {
        "no connection to the server",
        "this is PgBouncer, or another pooler, in front of the server",
    } <= {piece.partition(";")[0] for piece in found}
