"""Which schemas a release may use: its own, and a newer one whose migrations say that older releases may go on.

For the stores that keep their schema in migrations. While workers are replaced, the first new one migrates, and old
ones start again on what it has made (after a crash, or more of them): so each migration states the oldest schema whose
releases understand the new one, and what it states is kept in the store, where they can read it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from durable.errors import BackendError

OLDEST = "oldest_schema"
"""Its name in the table ``meta``. Missing: no other schema than the store's own."""

_STATED = re.compile(r"^-- Oldest schema whose releases may go on: (\d+)$", re.MULTILINE)


def oldest_of(scripts: Iterable[str]) -> int:
    """The oldest schema whose releases may use one that all these migrations have made.

    Raises ``ValueError`` for a migration that does not state it.
    """
    return max(_stated(script) for script in scripts)


def check_schema(url: str, version: str, known: int, oldest: str | None) -> int:
    """The schema's number. ``oldest`` is what the store keeps as `OLDEST`.

    Raises `BackendError` if a release that knows ``known`` may not use it.
    """
    if not version.isdigit():
        raise BackendError(f"{url} has the schema {version!r}, which is no number; restore a backup")
    number = int(version)
    shared = number if oldest is None or not oldest.isdigit() else int(oldest)
    if known < min(number, shared):
        raise BackendError(
            f"{url} has schema {number}, and this release knows {known} at most; use a newer release"
        )
    return number


def _stated(script: str) -> int:
    found = _STATED.search(script)
    if found is None:
        raise ValueError(f"a migration must state '{_STATED.pattern[1:-6]}<number>': {script[:80]!r}")
    return int(found[1])
