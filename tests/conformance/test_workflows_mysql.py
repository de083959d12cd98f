"""The MySQL and MariaDB store carries workflows."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from durable.testing import servers
from durable.testing.conformance import WorkflowLaws
from tests.conformance.emptied_mysql import INSTALLED, Mysql, a_database


@pytest.fixture(scope="module")
def url(mysql_server: servers.Server) -> Iterator[str]:
    yield from a_database(mysql_server, INSTALLED[-1])


class TestMysqlCarriesWorkflows(WorkflowLaws):
    @pytest.fixture
    def under_test(self, url: str) -> Mysql:
        return Mysql(url)
