"""The conformance kit judges the SQLite store."""

from __future__ import annotations

from pathlib import Path

import pytest

from durable.backends.contract import Backend
from durable.backends.sqlite import open_store
from durable.testing.conformance.clock import ManualClock
from durable.testing.conformance.harness import StoreUnderTest
from durable.testing.conformance.random_operations import RandomOperations
from durable.testing.conformance.store_laws import StoreLaws


class SqliteUnderTest(StoreUnderTest):
    keeps_data = True

    def __init__(self, folder: Path) -> None:
        self.clock = ManualClock()
        self.folder = folder

    async def open(self) -> Backend:
        return await open_store(f"sqlite:///{self.folder}/store.db", clock=self.clock)


class TestSqliteStore(StoreLaws):
    @pytest.fixture
    def under_test(self, tmp_path: Path) -> SqliteUnderTest:
        return SqliteUnderTest(tmp_path)
