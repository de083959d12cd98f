"""The SQLite store's `AdminStore`."""

from __future__ import annotations

from collections.abc import Sequence

from durable.backends.records import (
    Accepted,
    Answer,
    Claimant,
    Filter,
    Finding,
    Holdings,
    InstanceRef,
    InstanceView,
    OutboxEvent,
    Purge,
    Stats,
    Verdict,
)
from durable.backends.sqlite import deletion, finding, outbox
from durable.backends.sqlite.audit import audit
from durable.backends.sqlite.calls import Calls
from durable.backends.sqlite.crews import Transaction
from durable.backends.sqlite.holdings import holdings
from durable.backends.sqlite.lane import Lane

_BY_STATE = "SELECT state, count(*) FROM instances GROUP BY state"
_TASKS = "SELECT queue, count(*) FROM activities GROUP BY queue"
_READY = "SELECT queue, count(*) FROM instances WHERE claimable_at_us <= ? GROUP BY queue"
_BACKLOG = "SELECT count(*) FROM outbox"
_HOLDER = "SELECT worker_id, lease_until_us FROM roles WHERE role = ?"
_HOLD_ROLE = "INSERT OR REPLACE INTO roles (role, worker_id, lease_until_us) VALUES (?, ?, ?)"


class AdminCalls(Calls):
    """See `durable.backends.contract.AdminStore`."""

    def __init__(self, writer: Lane, reader: Lane) -> None:
        super().__init__(writer, reader)
        self._outbox_claims = outbox.OutboxClaims()

    async def migrate(self) -> Answer[None]:
        """Nothing is left to do: a file is brought up to date when it is opened."""
        return await self._read(lambda tx: Answer(now_us=tx.now_us, items=()))

    async def find(self, filter: Filter) -> Answer[InstanceView]:
        """See the contract."""
        return await self._read(lambda tx: Answer(now_us=tx.now_us, items=finding.find(tx.db, filter)))

    async def children(self, ref: InstanceRef, limit: int) -> Answer[InstanceView]:
        """See the contract."""
        return await self._read(
            lambda tx: Answer(now_us=tx.now_us, items=finding.children(tx.db, ref, limit))
        )

    async def delete(self, refs: Sequence[InstanceRef]) -> Answer[Verdict]:
        """See the contract."""
        asked = tuple(refs)
        return await self._write(
            lambda tx: Answer(now_us=tx.now_us, items=[deletion.delete(tx, ref) for ref in asked])
        )

    async def purge(self, purge: Purge) -> Answer[InstanceRef]:
        """See the contract."""
        return await self._write(lambda tx: Answer(now_us=tx.now_us, items=deletion.purge(tx, purge)))

    async def stats(self) -> Stats:
        """See the contract."""

        def work(tx: Transaction) -> Stats:
            return Stats(
                instances=dict(tx.db.execute(_BY_STATE)),
                activity_tasks=dict(tx.db.execute(_TASKS)),
                workflow_tasks=dict(tx.db.execute(_READY, (tx.now_us,))),
                outbox=tx.db.execute(_BACKLOG).fetchone()[0],
            )

        return await self._read(work)

    async def audit(self, *, repair: bool = False) -> Answer[Finding]:
        """See the contract."""

        def work(tx: Transaction) -> Answer[Finding]:
            return Answer(now_us=tx.now_us, items=list(audit(tx.db, tx.now_us, repair=repair)))

        return await (self._write(work) if repair else self._read(work))

    async def holdings(self, refs: Sequence[InstanceRef]) -> Answer[Holdings | None]:
        """See the contract."""
        asked = tuple(refs)
        return await self._read(
            lambda tx: Answer(now_us=tx.now_us, items=[holdings(tx.db, ref) for ref in asked])
        )

    async def hold_role(self, role: str, worker_id: str, lease_us: int) -> bool:
        """See the contract."""

        def work(tx: Transaction) -> bool:
            holder = tx.db.execute(_HOLDER, (role,)).fetchone()
            if holder is not None and holder[0] != worker_id and holder[1] > tx.now_us:
                return False
            tx.db.execute(_HOLD_ROLE, (role, worker_id, tx.now_us + lease_us))
            return True

        return await self._write(work)

    async def claim_outbox(self, claimant: Claimant, limit: int) -> Answer[OutboxEvent]:
        """See the contract."""

        def work(tx: Transaction) -> Answer[OutboxEvent]:
            items, next_us = self._outbox_claims.claim(tx, claimant, limit)
            return Answer(now_us=tx.now_us, items=items, next_wake_us=next_us)

        return await self._write(work)

    async def finish_outbox(self, ids: Sequence[str]) -> Answer[Accepted]:
        """See the contract."""
        asked = tuple(ids)

        def work(tx: Transaction) -> Answer[Accepted]:
            outbox.finish(tx, asked)
            return Answer(now_us=tx.now_us, items=[Accepted() for _ in asked])

        return await self._write(work)
