"""The SQLite store keeps the laws of the contract."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from durable.backends.contract import Backend
from durable.backends.sqlite import open_store
from durable.testing.conformance import ManualClock, RandomOperations, StoreLaws, StoreUnderTest
from tests.conformance.wounds import SQL


class Sqlite(StoreUnderTest):
    keeps_data = True
    damages = frozenset(SQL)

    def __init__(self, folder: Path) -> None:
        self.clock = ManualClock()
        self.url = f"sqlite:///{folder}/x.db"

    async def open(self) -> Backend:
        return await open_store(self.url, clock=self.clock)

    async def damage(self, store: Backend, kind: str, instance_id: str) -> None:
        with closing(sqlite3.connect(self.url.removeprefix("sqlite:///"))) as connection, connection:
            for statement in SQL[kind]:
                connection.execute(statement.format(id=instance_id))


class TestSqlite(StoreLaws):
    @pytest.fixture
    def under_test(self, tmp_path: Path) -> Sqlite:
        return Sqlite(tmp_path)


class TestSqliteAgainstMemory(RandomOperations):
    def make(self, folder: Path) -> Sqlite:
        return Sqlite(folder)
