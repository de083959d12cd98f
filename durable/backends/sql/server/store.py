"""The store itself: the parts of the contract on one database, and a bell."""

from __future__ import annotations

from typing import cast

from durable.backends.sql.server.admin_calls import AdminCalls
from durable.backends.sql.server.client_calls import ClientCalls
from durable.backends.sql.server.session import Database, Ended, Topics
from durable.backends.sql.server.transaction_calls import TransactionCalls
from durable.backends.sql.server.worker_calls import WorkerCalls
from durable.backends.wakeup import Bell, Topic


class ServerStore(WorkerCalls, ClientCalls, AdminCalls, TransactionCalls):
    """See `durable.backends.contract.Backend`."""

    def __init__(self, database: Database) -> None:
        self.bell = Bell()
        self.url = database.url
        self.bell.hears_others = database.hears
        self.bell.covered = frozenset({"activity", "question"})
        super().__init__(database, self._rung)
        self._hint = lambda topics: self._heard(topics, None)
        database.listen(self._heard)

    async def close(self) -> None:
        """Let go of all connections, after the calls that are under way. A second call does nothing."""
        await self._roll_back_what_is_open()
        for batch in self._batches:
            await batch.idle()
        await self._database.close()

    def _rung(self, topics: Topics, ended: set[str]) -> None:
        """Something was written here."""
        for topic in topics:
            self.bell.ring(cast(Topic, topic), ids=ended if topic == "closed" else None)
        self._database.announce(topics, ended or None)

    def _heard(self, topics: Topics, ended: Ended) -> None:
        """Something was written elsewhere, or found."""
        for topic in topics:
            self.bell.ring(cast(Topic, topic), ids=ended if topic == "closed" else None)
