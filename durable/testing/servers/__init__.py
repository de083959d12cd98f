"""Servers for tests: a PostgreSQL, a MariaDB or MySQL, from whatever the machine has.

For each service, the first that works of: ``url``, a server that somebody runs, named by ``DURABLE_TEST_POSTGRES_URL``
or ``DURABLE_TEST_MYSQL_URL``, whose user may create databases; ``installed``, a private process of an installed
program, in a temporary folder and on a free port of 127.0.0.1, as the service's own user if we are root; ``wheel``,
the same with the programs of a Python package (PostgreSQL only); ``docker``, a container.
``DURABLE_TEST_POSTGRES_FROM`` and ``DURABLE_TEST_MYSQL_FROM`` take other orders, or fewer of these words: ``wheel``,
``docker,installed``.

`private` is a server of one's own, to be killed and paused; `shared` is one for all processes of a test run. Neither
outlives the processes that use it, even when they are killed. On both, ``Server.database()`` gives a database of one's
own. Unless ``durable=True``, nothing waits for the disk: a killed server loses nothing, a machine would.

Not for production: the servers have a password, but no other protection from the machine's other users.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from durable.testing.servers import mysql, postgres
from durable.testing.servers.plan import Plan, Unavailable
from durable.testing.servers.server import Keeper, Server
from durable.testing.servers.sharing import Share, join

__all__ = ["SERVICES", "Server", "Share", "Unavailable", "private", "required", "shared", "standby"]

SERVICES = {"postgres": postgres, "mysql": mysql}
SOURCES = ("url", "installed", "wheel", "docker")


@asynccontextmanager
async def private(service: str, *, durable: bool = False) -> AsyncIterator[Server]:
    """A server of one's own, which ends, with its data, when the block does. ``durable``: commits reach the disk.

    Raises `Unavailable` if there is none on this machine (one that somebody else runs will not do).
    """
    server = await asyncio.to_thread(_start, service, durable)
    async with server:
        yield server


@asynccontextmanager
async def standby(primary: Server) -> AsyncIterator[Server]:
    """A hot standby of a private PostgreSQL, which follows it until it is promoted (``SELECT pg_promote()``)."""
    plan = postgres.standby(primary.plan, primary.url)
    async with await asyncio.to_thread(_started, plan) as server:
        yield server


def _start(service: str, durable: bool) -> Server:
    problems = []
    for plan in _plans(service, durable=durable):
        try:
            return _started(plan)
        except Unavailable as problem:
            problems.append(f"{plan.source}: {problem}")
    raise Unavailable("\n".join(problems))


def _started(plan: Plan) -> Server:
    keeper = Keeper(plan)
    url = plan.url.format(port=keeper.state["port"])
    return Server(plan.service, plan.source, url, keeper.state["pid"], keeper)


def shared(service: str, folder: Path) -> Share:
    """A share in the one server of all processes that name the same folder; started by the first. Blocks meanwhile.

    Raises `Unavailable` if there is none.
    """
    url = os.environ.get(f"DURABLE_TEST_{service.upper()}_URL")
    if url and "url" in _sources(service):
        users = (folder / f"{service}.users").open("ab")
        return Share(Server(service, f"the server of DURABLE_TEST_{service.upper()}_URL", url), users)
    return join(folder, service, lambda: _plans(service, durable=False))


def required(service: str) -> bool:
    """Is it an error, and no reason to skip a test, if there is no such server? As ``DURABLE_REQUIRE`` lists them."""
    words = os.environ.get("DURABLE_REQUIRE", "").replace(",", " ").split()
    return service in words or "all" in words


def _plans(service: str, *, durable: bool) -> tuple[Plan, ...]:
    module = SERVICES[service]
    found = tuple(module.plans(_sources(service), durable=durable))
    if not found:
        looked = ", ".join(_sources(service))
        raise Unavailable(f"no server for {service} on this machine (looked for: {looked}): {module.ADVICE}")
    return found


def _sources(service: str) -> tuple[str, ...]:
    name = f"DURABLE_TEST_{service.upper()}_FROM"
    words = tuple(os.environ.get(name, "").replace(",", " ").split()) or SOURCES
    for word in words:
        if word not in SOURCES:
            raise Unavailable(f"{name}: {word!r} is none of {', '.join(SOURCES)}")
    return words
