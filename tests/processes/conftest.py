"""Each of these tests runs on every store that several processes may share."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest


@pytest.fixture(params=["postgres", "mysql"])
async def server_url(request: pytest.FixtureRequest) -> AsyncIterator[str]:
    """An empty database of the test's own, on a server."""
    async with request.getfixturevalue(f"{request.param}_server").database() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgres", "mysql"])
async def url(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[str]:
    """An empty store of the test's own."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'store.db'}"
        return
    server = request.getfixturevalue(f"{request.param}_server")
    async with server.database() as url:
        yield url
