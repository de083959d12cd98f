"""Every kind of damage that the kit asks for can be done to memory and SQLite, so that no law of it is skipped."""

from __future__ import annotations

from durable.testing.conformance.harness import DAMAGES
from tests.conformance.wounds import MEMORY, SQL


def test_memory_and_sql_know_all_kinds() -> None:
    assert set(MEMORY) == set(SQL) == set(DAMAGES)
    assert len(DAMAGES) >= 14
