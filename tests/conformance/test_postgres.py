"""The PostgreSQL store keeps the laws of the contract."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from durable.backends.postgres import database
from durable.testing import servers
from durable.testing.conformance import RandomOperations, StoreLaws
from durable.testing.conformance.claims import ClaimLaws
from durable.testing.conformance.messages import MessageLaws
from tests.conformance.emptied_postgres import Postgres, a_database


@pytest.fixture(scope="module")
def url(postgres_server: servers.Server) -> Iterator[str]:
    yield from a_database(postgres_server)


class TestPostgres(StoreLaws):
    @pytest.fixture
    def under_test(self, url: str) -> Postgres:
        return Postgres(url)


class TestPostgresInGeneral(StoreLaws):
    """No batch is done by one statement."""

    @pytest.fixture
    def under_test(self, url: str) -> Postgres:
        return Postgres(url, one_statement="off")


class TestClaimsByOtherPlans(ClaimLaws):
    """The planner may join in any way, so no order and no limit may rest on the way that it is advised to take: here it
    merges, which gives rows in the order of their keys.
    """

    @pytest.fixture
    def under_test(self, url: str, monkeypatch: pytest.MonkeyPatch) -> Postgres:
        joins = {"enable_seqscan": "on", "enable_mergejoin": "on", "enable_nestloop": "off"}
        monkeypatch.setattr(database, "SETTINGS", database.SETTINGS | joins)
        return Postgres(url)


class TestMessagesByOtherPlans(MessageLaws):
    """Without any advice, on tables that the planner takes for empty: a full inbox was compared each with each."""

    @pytest.fixture
    def under_test(self, url: str, monkeypatch: pytest.MonkeyPatch) -> Postgres:
        plain = {name: value for name, value in database.SETTINGS.items() if not name.startswith("enable_")}
        monkeypatch.setattr(database, "SETTINGS", plain)
        return Postgres(url, taken_for_empty=True)


class TestMessagesByPartOfEmptyTables(MessageLaws):
    """The same with the advice, and with plans that are made for each batch."""

    @pytest.fixture
    def under_test(self, url: str) -> Postgres:
        return Postgres(url, taken_for_empty=True, group_by_part="true")


class TestPostgresByPart(StoreLaws):
    """Batches and statements are cut by part, as a distributed server wants them."""

    @pytest.fixture
    def under_test(self, url: str) -> Postgres:
        return Postgres(url, group_by_part="true")


class TestPostgresAgainstMemory(RandomOperations):
    examples = 60

    @pytest.fixture(autouse=True)
    def _server(self, url: str) -> None:
        self.url = url

    def make(self, folder: Path) -> Postgres:
        return Postgres(self.url)


class TestPostgresByPartAgainstMemory(RandomOperations):
    examples = 12

    @pytest.fixture(autouse=True)
    def _server(self, url: str) -> None:
        self.url = url

    def make(self, folder: Path) -> Postgres:
        return Postgres(self.url, group_by_part="true")
