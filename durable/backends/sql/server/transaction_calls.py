"""The optional part of the contract: transactions of callers (``connection=``) and of activities.

Both judge and write with the code of the ordinary calls. A caller's transaction holds the row of the instance that it
made or wrote to until it ends: batches of others answer `Busy` for that instance, and nothing else waits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from durable.backends.contract import ActivityTransaction
from durable.backends.records import (
    Accepted,
    ActivityFinished,
    ActivityRef,
    Answer,
    Busy,
    Created,
    Existing,
    NewInstance,
    NewMessage,
    Refused,
    Taken,
    Verdict,
)
from durable.backends.sql import needs
from durable.backends.sql.ledger import ActivityKey, Ledger
from durable.backends.sql.rows import ActivityRow
from durable.backends.sql.server.client_calls import create, send
from durable.backends.sql.server.judging import Calls, Judged, judge_all
from durable.backends.sql.server.loading import READ_ACTIVITIES, of_activities
from durable.backends.sql.server.session import Again, Culprit, Database, HeldSession, Ring, Session
from durable.backends.sql.server.worker_calls import finish
from durable.errors import BackendError

Q = TypeVar("Q")
A = TypeVar("A")

LIMIT_SECONDS = 5.0
"""How long a lock is waited for."""
BUSY_SECONDS = 0.02


class TransactionCalls(Calls):
    """See `durable.backends.contract.TransactionStore`."""

    def __init__(self, database: Database, ring: Ring) -> None:
        super().__init__(database, ring)
        self._held: set[HeldTransaction] = set()

    async def create_in(
        self, connection: Any, instance: NewInstance
    ) -> Answer[Created | Existing | Taken | Refused]:
        """See the contract."""
        return await self._judged_in(connection, instance, needs.of_instances, create)

    async def send_in(self, connection: Any, message: NewMessage) -> Answer[Verdict]:
        """See the contract."""
        return await self._judged_in(connection, message, needs.of_messages, send)

    async def _judged_in(
        self,
        connection: Any,
        item: Q,
        needs_of: Callable[[Sequence[Q]], needs.Needs],
        judge: Callable[[Ledger, Q], A],
    ) -> Answer[Any]:
        async def work(session: Session) -> Judged[A]:
            judged = await judge_all(session, (item,), needs_of, judge)
            await session.announce(judged.topics)
            return judged

        try:
            judged = await _patiently(self._database.url, lambda: self._database.borrow(connection, work))
        except Culprit as error:
            return Answer(now_us=0, items=[Refused(reason=str(error))])
        return Answer(now_us=judged.now_us, items=judged.verdicts)

    async def begin(self, ref: ActivityRef, token: str) -> ActivityTransaction:
        """See the contract."""
        held = await self._database.hold()
        transaction = HeldTransaction(self._database.url, held, self._ring, ref, token, self._held.discard)
        self._held.add(transaction)
        try:
            await transaction.check()
        except BaseException:
            await transaction.rollback()
            raise
        return transaction

    async def _roll_back_what_is_open(self) -> None:
        for held in list(self._held):
            await held.rollback()


class HeldTransaction:
    """See `durable.backends.contract.ActivityTransaction`."""

    def __init__(
        self,
        url: str,
        held: HeldSession,
        ring: Ring,
        ref: ActivityRef,
        token: str,
        over: Callable[[HeldTransaction], None],
    ) -> None:
        self.connection = held.connection
        self._url = url
        self._held = held
        self._ring = ring
        self._ref = ref
        self._token = token
        self._over = over
        self._label = f"activity {ref.number} of instance {ref.instance_id!r}"

    async def check(self) -> None:
        """Raises `BackendError` if the attempt is not this worker's any more."""
        key = ActivityKey(self._ref.instance_id, self._ref.run_id, self._ref.number)
        rows = await self._held.session.fetch_wanted(READ_ACTIVITIES, of_activities([key]))
        if not rows or ActivityRow(*rows[0]).token != self._token:
            raise BackendError(f"{self._label} is not this worker's any more; nothing was written")

    async def finish(self, outcome: ActivityFinished) -> Verdict:
        """See the contract. `BackendError` if the outcome cannot be kept, or the transaction is gone."""
        try:
            judged = await _patiently(self._url, lambda: self._judged(outcome))
            verdict: Verdict = judged.verdicts[0]
            if isinstance(verdict, Accepted):
                await self._held.commit()
                self._ring(judged.topics, judged.ended)
            return verdict
        except Culprit as error:
            raise BackendError(f"{self._label}: its result cannot be kept: {error}") from error
        finally:
            await self.rollback()

    async def _judged(self, outcome: ActivityFinished) -> Judged[Verdict]:
        judged = await judge_all(self._held.session, (outcome,), needs.of_outcomes, finish)
        if isinstance(judged.verdicts[0], Refused):
            raise Culprit(judged.verdicts[0].reason)
        return judged

    async def rollback(self) -> None:
        """See the contract."""
        try:
            await self._held.rollback()
        finally:
            self._over(self)


async def _patiently(url: str, attempt: Callable[[], Any]) -> Judged[Any]:
    """Wait for a row that somebody else holds, for so long."""
    give_up = asyncio.get_running_loop().time() + LIMIT_SECONDS
    while True:
        try:
            judged: Judged[Any] = await attempt()
            if not isinstance(judged.verdicts[0], Busy):
                return judged
            reason = "another transaction holds the instance"
        except Again as error:
            reason = str(error)
        if asyncio.get_running_loop().time() >= give_up:
            raise BackendError(f"{url}: {reason}, for more than {LIMIT_SECONDS:g} s; end it and try again")
        await asyncio.sleep(BUSY_SECONDS)
