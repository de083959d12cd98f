"""How stores are called in the pages, and how a doubtful line is marked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.conditions import BUSY_CORES

STORES = {
    "memory": "memory",
    "sqlite": "SQLite",
    "postgres": "PostgreSQL",
    "mysql": "MariaDB, aiomysql",
    "mysql/asyncmy": "MariaDB, asyncmy",
    "own": "its own server",
}
MARK = " \\*"


def store_name(store: str, loop: str = "asyncio") -> str:
    """For people."""
    name = STORES.get(store, store)
    return name if loop == "asyncio" else f"{name}, {loop}"


def marked(text: str, conditions: Mapping[str, Any]) -> str:
    """With a star if others took more than a quarter of a core meanwhile."""
    others = conditions["others_cores"]
    return text + MARK if others is not None and others > BUSY_CORES else text
