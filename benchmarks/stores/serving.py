"""A private server with a database for each round. Its commits reach the disk."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from urllib.parse import urlsplit

import asyncpg

from benchmarks import processes
from durable.backends.mysql import address as mysql_address
from durable.backends.mysql import driver as mysql_driver
from durable.testing import servers

_STATISTICS = {
    "postgres": (
        "SELECT (pg_current_wal_insert_lsn() - '0/0')::bigint "
        "UNION ALL SELECT sum(xact_commit)::bigint FROM pg_stat_database"
    ),
    "mysql": (
        "SELECT VARIABLE_VALUE FROM information_schema.GLOBAL_STATUS "
        "WHERE VARIABLE_NAME IN ('COM_COMMIT', 'INNODB_OS_LOG_WRITTEN') ORDER BY VARIABLE_NAME DESC"
    ),
}
_CONNECTIONS = {
    "postgres": "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'",
    "mysql": "SELECT VARIABLE_VALUE FROM information_schema.GLOBAL_STATUS WHERE VARIABLE_NAME = 'THREADS_CONNECTED'",
}

_SETTING = {"postgres": "SHOW {}", "mysql": "SELECT @@GLOBAL.{}"}
_SET = {"postgres": "ALTER SYSTEM SET {} = '{}'", "mysql": "SET GLOBAL {} = {}"}


class Serving:
    """A server that runs. ``options`` are put behind each URL."""

    def __init__(self, server: servers.Server, options: str = "") -> None:
        self._server = server
        self._options = options
        self.pid = server.pid
        self.service = server.service
        self.version = asyncio.run(_version(server))

    @contextmanager
    def new(self) -> Iterator[str]:
        """The URL of a new, empty database, which is dropped at the end."""
        url = asyncio.run(self._server.create_database())
        try:
            yield url + self._options
        finally:
            asyncio.run(self._server.drop_database(url))

    def ask(self, sql: str) -> list[str]:
        """The first column of the answer, as text, from the server's own database."""
        return asyncio.run(_ask(self._server, sql))

    def statistics(self) -> tuple[int, int]:
        """Since it began: bytes written into its log, and commits."""
        logged, commits = (int(number) for number in self.ask(_STATISTICS[self.service]))
        return logged, commits

    def connections(self) -> int:
        """That are open now, the one that asks left out."""
        (found,) = self.ask(_CONNECTIONS[self.service])
        return int(found) - 1

    def setting(self, name: str) -> str:
        """What a setting of the server is."""
        (found,) = self.ask(_SETTING[self.service].format(name))
        return found

    def set(self, settings: Mapping[str, str]) -> None:
        """For all connections that begin from now on."""
        for name, value in settings.items():
            self.ask(_SET[self.service].format(name, value))
        if self.service == "postgres":
            self.ask("SELECT pg_reload_conf()")

    def cpu_seconds(self) -> float:
        """Of all its processes, those that have ended included."""
        return processes.cpu_seconds_of_family(self.pid)


async def _version(server: servers.Server) -> str:
    (found,) = await _ask(
        server, "SHOW server_version" if server.service == "postgres" else "SELECT VERSION()"
    )
    return found.split(" ")[0].split("-")[0]


async def _ask(server: servers.Server, sql: str) -> list[str]:
    if server.service == "postgres":
        connection = await asyncpg.connect(server.url)
        try:
            return [str(row[0]) for row in await connection.fetch(sql)]
        finally:
            await connection.close()
    link = await mysql_driver.connect(
        mysql_address.parse_url(urlsplit(server.url)._replace(path="/mysql").geturl())
    )
    try:
        return [str(row[0]) for row in (await link.run(sql.encode()))[0].rows]
    finally:
        await link.close()


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
