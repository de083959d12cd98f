"""Processes that stand still in the middle of a statement, and hold the rows that it has locked.

For the server such a transaction is active, not idle: it waits for the next message of a statement that is sent in
several (parse, then bind), or for room to send its rows. No setting of a server before 17 ends that: neither
``idle_in_transaction_session_timeout`` nor ``statement_timeout``. And a claim skips locked rows, so it never waits for
them. So whoever is about to write looks now and then, and ends them. A role may do that to its own connections.
"""

from __future__ import annotations

import time
from typing import Any

APPLICATION_NAME = "durable"
STANDSTILL_SECONDS = 10.0
"""A statement is sent and answered in milliseconds."""

# Without parameters it is sent in one message, so that it may go through PgBouncer outside of a transaction.
_END = """
SELECT pg_terminate_backend(a.pid) FROM pg_stat_activity AS a
WHERE a.datname = current_database() AND a.usename = current_user AND a.application_name = '{name}'
    AND a.state = 'active' AND a.wait_event_type = 'Client' AND a.backend_xid IS NOT NULL
    AND a.state_change < clock_timestamp() - make_interval(secs => {seconds})
"""


class Standstill:
    """One for each store that is open."""

    def __init__(self) -> None:
        self._looked = time.monotonic()

    @property
    def is_due(self) -> bool:
        """Whether it is time to look for them."""
        return time.monotonic() - self._looked >= STANDSTILL_SECONDS / 2

    async def end(self, connection: Any, timeout: float) -> None:
        """End them, on a connection without a transaction."""
        self._looked = time.monotonic()
        text = _END.format(name=APPLICATION_NAME, seconds=STANDSTILL_SECONDS)
        await connection.execute(text, timeout=timeout)
