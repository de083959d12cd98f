"""The MySQL and MariaDB store carries workflows."""

from __future__ import annotations

import pytest

from durable.backends.contract import Backend
from durable.backends.mysql import open_store
from durable.testing.conformance import ManualClock, StoreUnderTest, WorkflowLaws


class Mysql(StoreUnderTest):
    keeps_data = True

    def __init__(self, url: str) -> None:
        self.clock = ManualClock()
        self.url = url

    async def open(self) -> Backend:
        return await open_store(self.url, clock=self.clock)


class TestMysqlCarriesWorkflows(WorkflowLaws):
    @pytest.fixture
    def under_test(self, mysql_url: str) -> Mysql:
        return Mysql(mysql_url)
