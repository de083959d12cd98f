"""How a PostgreSQL store is opened."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from durable.backends.contract import Backend
from durable.backends.postgres.address import parse_url
from durable.backends.postgres.database import PostgresDatabase
from durable.backends.sql.server.store import ServerStore


async def open_store(url: str, **settings: Any) -> Backend:
    """Open ``postgresql://user:password@host:port/database``; the schema is made if it is not there.

    Options of the URL, or ``settings``: ``schema`` (default ``public``), ``pool_size`` (10), ``pool_idle`` (300 s),
    ``connect_timeout`` (5 s), ``call_timeout`` (30 s, of each statement), ``wakeups`` (``off``: no LISTEN and NOTIFY),
    ``pgbouncer`` (``true``: through PgBouncer in transaction mode), ``group_by_part`` and ``one_statement`` (see
    `durable.backends.sql.server.session.Database`), ``sslmode``, ``sslrootcert``, ``sslcert``,
    ``sslkey``; ``host`` may be the folder of a Unix socket. ``poll`` is the worker's and ignored here. ``clock``, for
    tests, gives the time in microseconds since the epoch instead of the server.

    Raises ``ValueError`` for other options, `BackendError` for a server that cannot be reached or used, in one line and
    without the password.
    """
    clock: Callable[[], int] | None = settings.pop("clock", None)
    address = parse_url(url, settings)
    database = PostgresDatabase(address, clock)
    try:
        await database.migrate()
        store = ServerStore(database)
    except BaseException:
        await database.close()
        raise
    return cast(Backend, store)
