"""The SQLite store keeps the laws of the contract."""

from __future__ import annotations

from pathlib import Path

import pytest

from durable.backends.contract import Backend
from durable.backends.sqlite import open_store
from durable.testing.conformance import ManualClock, RandomOperations, StoreLaws, StoreUnderTest


class Sqlite(StoreUnderTest):
    keeps_data = True

    def __init__(self, folder: Path) -> None:
        self.clock = ManualClock()
        self.url = f"sqlite:///{folder}/x.db"

    async def open(self) -> Backend:
        return await open_store(self.url, clock=self.clock)


class TestSqlite(StoreLaws):
    @pytest.fixture
    def under_test(self, tmp_path: Path) -> Sqlite:
        return Sqlite(tmp_path)


class TestSqliteAgainstMemory(RandomOperations):
    def make(self, folder: Path) -> Sqlite:
        return Sqlite(folder)
