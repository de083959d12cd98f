"""The `AdminStore` of a store on a server."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

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
from durable.backends.sql.server import deletion, finding, outbox, roles
from durable.backends.sql.server.audit import audit
from durable.backends.sql.server.holdings import holdings
from durable.backends.sql.server.judging import Calls
from durable.backends.sql.server.session import Database, Ring, Session, Topics

A = TypeVar("A")


class AdminCalls(Calls):
    """See `durable.backends.contract.AdminStore`."""

    def __init__(self, database: Database, ring: Ring) -> None:
        super().__init__(database, ring)
        self._outbox_claims = outbox.OutboxClaims()

    async def migrate(self) -> Answer[None]:
        """See the contract. A store that is opened does it by itself."""
        await self._database.migrate()
        return Answer(now_us=await self._read(_now_us), items=())

    async def find(self, filter: Filter) -> Answer[InstanceView]:
        """See the contract."""
        return await self._seen(lambda session: finding.find(session, filter, self._database.tag_test))

    async def children(self, ref: InstanceRef, limit: int) -> Answer[InstanceView]:
        """See the contract."""
        return await self._seen(lambda session: finding.children(session, ref, limit))

    async def holdings(self, refs: Sequence[InstanceRef]) -> Answer[Holdings | None]:
        """See the contract."""
        return await self._seen(lambda session: holdings(session, refs))

    async def _seen(self, look: Callable[[Session], Awaitable[Sequence[A]]]) -> Answer[A]:
        async def work(session: Session) -> Answer[A]:
            return Answer(now_us=await _now_us(session), items=await look(session))

        return await self._read(work)

    async def delete(self, refs: Sequence[InstanceRef]) -> Answer[Verdict]:
        """See the contract. What somebody else holds is `Busy`."""

        async def work(session: Session, _: Topics) -> Answer[Verdict]:
            verdicts = await deletion.delete(session, refs)
            return Answer(now_us=await _now_us(session), items=verdicts)

        return await self._write(work)

    async def purge(self, purge: Purge) -> Answer[InstanceRef]:
        """See the contract."""

        async def work(session: Session, _: Topics) -> Answer[InstanceRef]:
            gone = await deletion.purge(session, purge)
            return Answer(now_us=await _now_us(session), items=gone)

        return await self._write(work)

    async def stats(self) -> Stats:
        """See the contract."""
        return await self._read(roles.count)

    async def audit(self, *, repair: bool = False) -> Answer[Finding]:
        """See the contract."""
        if not repair:
            return await self._seen(lambda session: audit(session, repair=False))

        async def work(session: Session, topics: Topics) -> Answer[Finding]:
            found = await audit(session, repair=True)
            topics |= {"workflow", "activity", "question"} if found else set()
            return Answer(now_us=await _now_us(session), items=found)

        return await self._write(work)

    async def hold_role(self, role: str, worker_id: str, lease_us: int) -> bool:
        """See the contract."""
        if await self._read(lambda session: roles.is_held_by_another(session, role, worker_id)):
            return False
        return await self._write(lambda session, _: roles.hold(session, role, worker_id, lease_us))

    async def claim_outbox(self, claimant: Claimant, limit: int) -> Answer[OutboxEvent]:
        """See the contract."""
        look = await self._read(outbox.look_for_events)
        if not look.free and not self._outbox_claims.again(claimant):
            return Answer(now_us=look.now_us, items=(), next_wake_us=look.next_us)

        async def work(session: Session, _: Topics) -> Answer[OutboxEvent]:
            items, after = await self._outbox_claims.claim(session, claimant, limit)
            return Answer(now_us=after.now_us, items=items, next_wake_us=after.next_us)

        return await self._write(work)

    async def finish_outbox(self, ids: Sequence[str]) -> Answer[Accepted]:
        """See the contract."""

        async def work(session: Session, _: Topics) -> Answer[Accepted]:
            await outbox.finish(session, ids)
            return Answer(now_us=await _now_us(session), items=[Accepted() for _ in ids])

        return await self._write(work)


async def _now_us(session: Session) -> int:
    now_us: int = (await session.fetch("SELECT @now"))[0][0]
    return now_us
