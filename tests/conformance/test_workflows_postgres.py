"""The PostgreSQL store carries workflows."""

from __future__ import annotations

from zlib import crc32

import asyncpg
import pytest

from durable.backends.contract import Backend
from durable.backends.postgres import open_store
from durable.testing.conformance import ManualClock, StoreUnderTest, WorkflowLaws
from tests.conformance.wounds import SQL


class Postgres(StoreUnderTest):
    keeps_data = True
    damages = frozenset(SQL)

    def __init__(self, url: str, wakeups: str) -> None:
        self.clock = ManualClock()
        self.url = url
        self.wakeups = wakeups

    async def open(self) -> Backend:
        return await open_store(self.url, clock=self.clock, wakeups=self.wakeups)

    async def damage(self, store: Backend, kind: str, instance_id: str) -> None:
        connection = await asyncpg.connect(self.url)
        try:
            await connection.execute(";".join(SQL[kind]).format(id=instance_id))
        finally:
            await connection.close()


class TestPostgresCarriesWorkflows(WorkflowLaws):
    @pytest.fixture
    def under_test(self, request: pytest.FixtureRequest, postgres_url: str) -> Postgres:
        # Half of the laws, always the same half, without wake-ups: polling alone is right.
        return Postgres(postgres_url, "off" if crc32(request.node.name.encode()) % 2 else "on")
