"""A private server with a database for each round. Its commits reach the disk."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from durable.testing import servers


class Serving:
    """A server that runs. ``options`` are put behind each URL."""

    def __init__(self, server: servers.Server, options: str = "") -> None:
        self._server = server
        self._options = options
        self.pid = server.pid

    @contextmanager
    def new(self) -> Iterator[str]:
        """The URL of a new, empty database, which is dropped at the end."""
        url = asyncio.run(self._server.create_database())
        try:
            yield url + self._options
        finally:
            asyncio.run(self._server.drop_database(url))


@contextmanager
def serving(service: str, options: str = "") -> Iterator[Serving]:
    """Start a server, and end it with the block. Raises `durable.testing.servers.Unavailable`."""
    with asyncio.Runner() as runner:
        context = servers.private(service, durable=True)
        server = runner.run(context.__aenter__())
        try:
            yield Serving(server, options)
        finally:
            runner.run(context.__aexit__(None, None, None))
