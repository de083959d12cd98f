"""The PostgreSQL store carries workflows."""

from __future__ import annotations

import asyncpg
import pytest

from durable.backends.contract import Backend
from durable.backends.postgres import open_store
from durable.testing.conformance import ManualClock, StoreUnderTest, WorkflowLaws
from tests.conformance.wounds import SQL


class Postgres(StoreUnderTest):
    keeps_data = True
    damages = frozenset(SQL)

    def __init__(self, url: str) -> None:
        self.clock = ManualClock()
        self.url = url

    async def open(self) -> Backend:
        return await open_store(self.url, clock=self.clock)

    async def damage(self, store: Backend, kind: str, instance_id: str) -> None:
        connection = await asyncpg.connect(self.url)
        try:
            await connection.execute(";".join(SQL[kind]).format(id=instance_id))
        finally:
            await connection.close()


class TestPostgresCarriesWorkflows(WorkflowLaws):
    @pytest.fixture
    def under_test(self, postgres_url: str) -> Postgres:
        return Postgres(postgres_url)
