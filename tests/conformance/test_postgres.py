"""The PostgreSQL store keeps the laws of the contract. Each store has a schema of its own in the run's server."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import pytest

from durable.backends.contract import Backend
from durable.backends.postgres import open_store
from durable.testing.conformance import ManualClock, RandomOperations, StoreLaws, StoreUnderTest
from durable.testing.servers import Server
from tests.conformance.wounds import SQL


class Postgres(StoreUnderTest):
    keeps_data = True
    damages = frozenset(SQL)

    def __init__(self, url: str) -> None:
        self.clock = ManualClock()
        self.server_url = url
        self.schema = f"laws_{secrets.token_hex(6)}"

    async def open(self) -> Backend:
        settings = {"schema": self.schema, "pool_size": 4, "wakeups": "off"}
        return await open_store(self.server_url, clock=self.clock, **settings)

    async def damage(self, store: Backend, kind: str, instance_id: str) -> None:
        for statement in SQL[kind]:
            await self.execute(f'SET search_path TO "{self.schema}"; ' + statement.format(id=instance_id))

    async def execute(self, statement: str) -> None:
        connection = await asyncpg.connect(self.server_url)
        try:
            await connection.execute(statement)
        finally:
            await connection.close()

    async def drop(self) -> None:
        await self.execute(f'DROP SCHEMA IF EXISTS "{self.schema}" CASCADE')


class TestPostgres(StoreLaws):
    @pytest.fixture
    async def under_test(self, postgres_server: Server) -> AsyncIterator[Postgres]:
        judged = Postgres(postgres_server.url)
        yield judged
        await judged.drop()


class TestPostgresAgainstMemory(RandomOperations):
    @pytest.fixture(autouse=True)
    def on_server(self, postgres_server: Server) -> Iterator[None]:
        self.url = postgres_server.url
        yield

    def make(self, folder: Path) -> Postgres:
        return Postgres(self.url)
