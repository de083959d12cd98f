"""What every test gets, whatever it is about: no settings from outside, Hypothesis without a stopwatch, and servers."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import settings

from durable.testing import servers

# A `DURABLE_URL` in somebody's shell must not lead a test to a real store. What chooses servers for tests stays.
for name in [name for name in os.environ if name.startswith("DURABLE_")]:
    if not name.startswith(("DURABLE_TEST_", "DURABLE_REQUIRE")):
        del os.environ[name]

# No deadline: on a shared machine a slow example says nothing about the code.
# With HYPOTHESIS_PROFILE=thorough it looks longer.
settings.register_profile("default", deadline=None, print_blob=True)
settings.register_profile("thorough", deadline=None, print_blob=True, max_examples=2_000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


class Shares:
    """This process's shares in the run's servers. All that the chosen tests need start at once, beside the tests."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._threads = ThreadPoolExecutor(len(servers.SERVICES))
        self._found: dict[str, Future[servers.Share]] = {}

    def want(self, service: str) -> Future[servers.Share]:
        if service not in self._found:
            self._found[service] = self._threads.submit(servers.shared, service, self._folder)
        return self._found[service]

    def server(self, service: str) -> servers.Server:
        try:
            return self.want(service).result().server
        except servers.Unavailable as missing:
            if servers.required(service):
                pytest.fail(str(missing), pytrace=False)
            pytest.skip(str(missing))

    def leave(self) -> None:
        self._threads.shutdown()
        for share in self._found.values():
            if share.exception() is None:
                share.result().leave()


@pytest.fixture(scope="session")
def shares(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shares]:
    base = tmp_path_factory.getbasetemp()
    found = Shares(base.parent if hasattr(request.config, "workerinput") else base)
    for service in servers.SERVICES:
        if any(f"{service}_server" in getattr(item, "fixturenames", ()) for item in request.session.items):
            found.want(service)
    yield found
    found.leave()


@pytest.fixture(scope="session")
def postgres_server(shares: Shares) -> servers.Server:
    """The run's PostgreSQL, which all tests share: it is not to be stopped. `postgres_url` is what most tests want."""
    return shares.server("postgres")


@pytest.fixture(scope="session")
def mysql_server(shares: Shares) -> servers.Server:
    """The run's MariaDB or MySQL, which all tests share: it is not to be stopped."""
    return shares.server("mysql")


@pytest.fixture
async def postgres_url(postgres_server: servers.Server) -> AsyncIterator[str]:
    """A new, empty database for this test."""
    async with postgres_server.database() as url:
        yield url


@pytest.fixture
async def mysql_url(mysql_server: servers.Server) -> AsyncIterator[str]:
    """A new, empty database for this test."""
    async with mysql_server.database() as url:
        yield url
