"""The SQLite store carries workflows."""

from __future__ import annotations

from pathlib import Path

import pytest

from durable.backends.contract import Backend
from durable.backends.sqlite import open_store
from durable.testing.conformance import ManualClock, StoreUnderTest, WorkflowLaws


class Sqlite(StoreUnderTest):
    keeps_data = True

    def __init__(self, folder: Path) -> None:
        self.clock = ManualClock()
        self.url = f"sqlite:///{folder}/x.db"

    async def open(self) -> Backend:
        return await open_store(self.url, clock=self.clock)


class TestSqliteCarriesWorkflows(WorkflowLaws):
    @pytest.fixture
    def under_test(self, tmp_path: Path) -> Sqlite:
        return Sqlite(tmp_path)
