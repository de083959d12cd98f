"""The SQLite store keeps the laws of the contract."""

from __future__ import annotations

import sqlite3
from contextlib import closing
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

    async def damage(self, store: Backend, kind: str, instance_id: str) -> None:
        column = {
            "head_ahead": "head_number = head_number + 1",
            "end_without_time": "state = 'completed', ready_at_us = NULL, claimable_at_us = NULL",
            "stranded": "ready_at_us = NULL, claimable_at_us = NULL",
        }[kind]
        with closing(sqlite3.connect(self.url.removeprefix("sqlite:///"))) as connection, connection:
            connection.execute(f"UPDATE instances SET {column} WHERE instance_id = ?", [instance_id])


class TestSqlite(StoreLaws):
    @pytest.fixture
    def under_test(self, tmp_path: Path) -> Sqlite:
        return Sqlite(tmp_path)


class TestSqliteAgainstMemory(RandomOperations):
    def make(self, folder: Path) -> Sqlite:
        return Sqlite(folder)
