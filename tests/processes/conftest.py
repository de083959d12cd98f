"""Each of these tests runs on every store that several processes may share."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from importlib.metadata import entry_points
from pathlib import Path

import pytest

SCHEMES = {"postgres": "postgresql", "mysql": "mysql"}
SEEDS = [int(word) for word in os.environ.get("DURABLE_TEST_SEEDS", "1").split()]
"""Where a test draws its programs and moments from. `DURABLE_TEST_SEEDS="2 3 4"` makes it look elsewhere."""


def skip_unless_there_is(scheme: str) -> None:
    if scheme not in entry_points(group="durable.backends").names:
        pytest.skip(f"there is no store {scheme}:// yet")


@pytest.fixture(params=["postgres", "mysql"])
async def server_url(request: pytest.FixtureRequest) -> AsyncIterator[str]:
    """An empty database of the test's own, on a server."""
    skip_unless_there_is(SCHEMES[request.param])
    async with request.getfixturevalue(f"{request.param}_server").database() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgres", "mysql"])
async def url(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[str]:
    """An empty store of the test's own."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'store.db'}"
        return
    skip_unless_there_is(SCHEMES[request.param])
    server = request.getfixturevalue(f"{request.param}_server")
    async with server.database() as url:
        yield url
