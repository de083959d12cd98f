"""A hundred thousand runs, written by the server itself, and what its counters say was read since."""

from __future__ import annotations

from typing import Any, cast

from durable.backends.contract import Backend
from durable.backends.postgres.database import PostgresDatabase
from durable.backends.postgres.sessions import PostgresSession

N = 100_000
_NUMBERS = f"FROM generate_series(0, {N - 1}) AS n"
_COUNTERS = (
    "SELECT (SELECT coalesce(sum(seq_tup_read), 0) FROM pg_stat_user_tables)::bigint, "
    "(SELECT coalesce(sum(idx_tup_read), 0) FROM pg_stat_user_indexes)::bigint"
)


def runs(prefix: str, workflow: str, due_us: str) -> str:
    """100,000 runs of a workflow; ``due_us`` is an expression on ``n``. Their parts are not those of the ids."""
    return (
        "INSERT INTO instances (part, instance_id, run_id, workflow, version, queue, state, tags, vars, head_number, "
        "head_token, history_bytes, sent, seen, children, claims, created_at_us, updated_at_us, first_run_id, "
        "ready_at_us, claimable_at_us) "
        f"SELECT n % 64, '{prefix}' || n, '{prefix}' || n, '{workflow}', '', 'default', 'running', '{{}}', "
        f"'{{}}', 1, 'h', 7, 0, 0, 0, 0, n, n, 'r', {due_us}, {due_us} {_NUMBERS}"
    )


def activities(prefix: str, name: str, due_us: str) -> str:
    """100,000 activities of such runs."""
    return (
        "INSERT INTO activities (part, run_id, number, instance_id, workflow, name, queue, payload, options, "
        "scheduled_at_us, due_at_us, attempt, deliveries, parked, expired, held, claimable_at_us) "
        f"SELECT n % 64, '{prefix}' || n, 2, '{prefix}' || n, 'Order', '{name}', 'default', '[]', "
        f"'{{}}', n, n, 1, 0, 0, 0, 0, {due_us} {_NUMBERS}"
    )


def histories(prefix: str) -> str:
    """The first event of each."""
    return (
        "INSERT INTO history (part, instance_id, run_id, first_number, last_number, events) "
        f"SELECT n % 64, '{prefix}' || n, '{prefix}' || n, 1, 1, 'started' {_NUMBERS}"
    )


def database_of(store: Backend) -> PostgresDatabase:
    """The store's own: what it sends with it is explained and counted."""
    return cast(PostgresDatabase, cast(Any, store)._database)


class Sent:
    """The statements that a store sends."""

    def __init__(self, monkeypatch: Any) -> None:
        self.texts: list[str] = []
        for name in ("_fetched", "_executed"):
            monkeypatch.setattr(PostgresSession, name, self._noting(getattr(PostgresSession, name)))

    def _noting(self, plain: Any) -> Any:
        async def noting(session: PostgresSession, text: str, parameters: Any) -> Any:
            self.texts.append(text)
            return await plain(session, text, parameters)

        return noting


async def reads(database: PostgresDatabase) -> tuple[int, int]:
    """Rows that scans of whole tables have read so far, and entries that scans of indexes have. Of all connections.

    The counters of a connection are told by that connection: there is to be only one.
    """
    async with database._pool.lent() as loan:
        await loan.connection.execute("SELECT pg_stat_force_next_flush()")
        counted = await loan.connection.fetchrow(_COUNTERS)
        loan.sound = True
    return int(counted[0]), int(counted[1])
