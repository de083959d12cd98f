"""What an error of the server or the driver means: do it again, refuse what it carried, or nobody knows."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Iterator

import asyncpg

from durable.backends.postgres.address import Address
from durable.backends.sql.server.session import Again, Culprit
from durable.errors import BackendError

AGAIN = ("40001", "40P01", "55P03", "53200")
"""Serialisation failure, deadlock, a lock waited for too long; no room in the table of locks (the reserved ids)."""
CULPRITS = ("22", "23", "54")
"""Classes: data, integrity, limits of the program (a row too wide for an index)."""

# A start with settings is refused by a pooler, and a statement prepared on another connection is not found.
_POOLER = "this is PgBouncer, or another pooler, in front of the server; add ?pgbouncer=true ({text})"
_ONLY_READS = "25006"
_HINTS = {
    "08P01": _POOLER,
    "26000": _POOLER,
    "42P05": _POOLER,
    "28P01": "the password for user {user!r} is wrong",
    "28000": "the server does not let user {user!r} in ({text})",
    "3D000": "there is no database {database!r}; create it, or name another in the URL",
    "3F000": "there is no schema {schema!r}, and it could not be made",
    "42501": "the grant is missing ({text}); see docs/how-to/grants.md",
    "42P01": "a table is missing ({text}): was the schema {schema!r} dropped? Open the store again to make it",
    "53300": "the server has no free connection ({text}); lower pool_size, or raise its max_connections",
    "53100": "the server's disk is full; nothing was written",
    _ONLY_READS: "the server only reads ({text}); it is a standby, name the primary",
}


@contextlib.contextmanager
def told_apart(address: Address) -> Iterator[None]:
    """Errors of a statement as `Again`, `Culprit` or `BackendError`."""
    try:
        yield
    except (
        asyncpg.PostgresError,
        asyncpg.InterfaceError,
        asyncpg.InternalClientError,  # an idle connection that the server has just said good-bye to, and not closed
        OSError,
        TimeoutError,
        EOFError,
    ) as error:
        raise meaning(address, error) from error


def meaning(address: Address, error: BaseException) -> Exception:
    """What an error of a statement is for the store."""
    if isinstance(error, asyncpg.PostgresError):
        state = error.sqlstate or ""
        if state in AGAIN:
            return Again(_line(error))
        if state.startswith(CULPRITS):
            return Culprit(f"{type(error).__name__}: {_line(error)}")
    elif isinstance(error, asyncpg.InterfaceError) and isinstance(
        error, ValueError
    ):  # asyncpg.DataError, among others
        return Culprit(f"{type(error).__name__}: {_line(error)}")
    return explained(address, error)


def explained(address: Address, error: BaseException) -> BackendError:
    """One line that says what is wrong, and what to do. It names the server without its password."""
    state = getattr(error, "sqlstate", None)
    # A standby's answer to BEGIN ... READ WRITE; the same state tells of other features that are lacking.
    if state == "0A000" and "recovery" in str(error):
        state = _ONLY_READS
    if state in _HINTS:
        hint = _HINTS[state].format(
            user=address.user, database=address.database, schema=address.schema, text=_line(error)
        )
        return BackendError(f"{address.url}: {hint}")
    if isinstance(error, TimeoutError):
        return BackendError(f"{address.url}: the server did not answer in time")
    if isinstance(error, ssl.SSLError):
        return BackendError(f"{address.url}: no TLS connection could be made ({_line(error)})")
    if isinstance(error, OSError) and not isinstance(error, asyncpg.PostgresError):
        return BackendError(f"{address.url}: no connection to the server ({_line(error)})")
    return BackendError(f"{address.url}: {_line(error)} ({type(error).__name__})")


def _line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
