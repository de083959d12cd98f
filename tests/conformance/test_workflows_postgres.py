"""The PostgreSQL store carries workflows."""

from __future__ import annotations

from collections.abc import Iterator
from zlib import crc32

import pytest

from durable.testing import servers
from durable.testing.conformance import WorkflowLaws
from tests.conformance.emptied_postgres import Postgres, a_database


@pytest.fixture(scope="module")
def url(postgres_server: servers.Server) -> Iterator[str]:
    yield from a_database(postgres_server)


class TestPostgresCarriesWorkflows(WorkflowLaws):
    @pytest.fixture
    def under_test(self, request: pytest.FixtureRequest, url: str) -> Postgres:
        # Half of the laws, always the same half, without wake-ups: polling alone is right.
        return Postgres(url, wakeups="off" if crc32(request.node.name.encode()) % 2 else "on")
