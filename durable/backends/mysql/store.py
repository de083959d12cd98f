"""How a store is opened."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from durable.backends.contract import Backend
from durable.backends.mysql.address import parse_url
from durable.backends.mysql.database import MysqlDatabase
from durable.backends.sql.server.store import ServerStore


async def open_store(url: str, **settings: Any) -> Backend:
    """Open ``mysql://user:password@host:3306/database?option=value`` (or ``mariadb://``); `address` has the options.

    The tables are made if they are not there. ``clock`` gives the time in microseconds since the epoch instead of the
    server's, for tests. Raises ``ValueError`` for other settings and options, `BackendError` for a server that cannot
    be used.
    """
    clock: Callable[[], int] | None = settings.pop("clock", None)
    database = MysqlDatabase(parse_url(url, settings), clock)
    try:
        await database.open()
    except BaseException:
        await database.close()
        raise
    return cast(Backend, ServerStore(database))
