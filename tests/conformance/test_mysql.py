"""The MySQL and MariaDB store keeps the laws of the contract, on both drivers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from durable.testing import servers
from durable.testing.conformance import RandomOperations, StoreLaws
from tests.conformance.emptied_mysql import INSTALLED, Mysql, a_database


@pytest.fixture(scope="module", params=INSTALLED)
def url(request: pytest.FixtureRequest, mysql_server: servers.Server) -> Iterator[str]:
    yield from a_database(mysql_server, request.param)


class TestMysql(StoreLaws):
    @pytest.fixture
    def under_test(self, url: str) -> Mysql:
        return Mysql(url)


class TestMysqlAgainstMemory(RandomOperations):
    examples = 60

    @pytest.fixture(autouse=True)
    def _server(self, url: str) -> None:
        if not url.endswith(INSTALLED[0]):
            pytest.skip("one driver is enough: the statements are the same")
        self.url = url

    def make(self, folder: Path) -> Mysql:
        return Mysql(self.url)
