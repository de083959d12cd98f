"""Plain statements on a server of either kind, as people type them: through a driver, without the engine."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote, unquote, urlsplit, urlunsplit

import aiomysql
import asyncpg


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[Any]:
    """A connection of the driver's; on MySQL in autocommit mode."""
    parts = urlsplit(url)
    if parts.scheme == "postgresql":
        connection = await asyncpg.connect(urlunsplit(parts._replace(query="")))
        try:
            yield connection
        finally:
            await connection.close()
        return
    connection = await aiomysql.connect(
        host=parts.hostname,
        port=parts.port,
        user=unquote(parts.username or ""),
        password=unquote(parts.password or ""),
        db=unquote(parts.path[1:]) or None,
        charset="utf8mb4",
        autocommit=True,
    )
    try:
        yield connection
    finally:
        await connection.ensure_closed()


async def ask(connection: Any, statement: str) -> list[dict[str, Any]]:
    """Its rows, by the names of their columns."""
    if isinstance(connection, asyncpg.Connection):
        return [dict(row) for row in await connection.fetch(statement)]
    async with connection.cursor(aiomysql.DictCursor) as cursor:
        await cursor.execute(statement)
        return list(await cursor.fetchall())


async def say(url: str, *statements: str) -> None:
    """Each for itself, none in a transaction."""
    async with connected(url) as connection:
        for statement in statements:
            await ask(connection, statement)


def changed(url: str, *, user: str | None = None, password: str = "", database: str | None = None) -> str:
    """The URL of another user, or to another database."""
    parts = urlsplit(url)
    who = f"{parts.username}:{parts.password}" if user is None else f"{user}:{quote(password)}"
    path = parts.path if database is None else f"/{database}"
    return urlunsplit(parts._replace(netloc=f"{who}@{parts.hostname}:{parts.port}", path=path))
