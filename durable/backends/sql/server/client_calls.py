"""The `ClientStore` of a store on a server."""

from __future__ import annotations

from collections.abc import Sequence

from durable.backends.records import (
    Answer,
    Busy,
    Change,
    Created,
    Existing,
    InstanceRef,
    InstanceView,
    NewInstance,
    NewMessage,
    NotFound,
    Question,
    Refused,
    Reply,
    Taken,
    Ticket,
    Verdict,
)
from durable.backends.sql import needs
from durable.backends.sql.changes import judge_change
from durable.backends.sql.creating import judge_create
from durable.backends.sql.inbox import judge_send
from durable.backends.sql.ledger import Ledger
from durable.backends.sql.server import finding, questions
from durable.backends.sql.server.judging import Calls
from durable.backends.sql.server.one_statement import CREATIONS, MESSAGES
from durable.backends.sql.server.session import Database, Ring, Session, Topics


class ClientCalls(Calls):
    """See `durable.backends.contract.ClientStore`."""

    def __init__(self, database: Database, ring: Ring) -> None:
        super().__init__(database, ring)
        self._creations = self._batch(needs.of_instances, create, short=CREATIONS)
        self._messages = self._batch(needs.of_messages, send, short=MESSAGES)
        self._changes = self._batch(needs.of_changes, _change)

    async def create(
        self, instances: Sequence[NewInstance]
    ) -> Answer[Created | Existing | Taken | Refused | Busy]:
        """See the contract."""
        return await self._creations.ask(instances)

    async def send(self, messages: Sequence[NewMessage]) -> Answer[Verdict]:
        """See the contract."""
        return await self._messages.ask(messages)

    async def get(self, refs: Sequence[InstanceRef]) -> Answer[InstanceView | None]:
        """See the contract."""
        return await self._read(lambda session: finding.get(session, refs))

    async def change(self, changes: Sequence[Change]) -> Answer[Verdict]:
        """See the contract."""
        return await self._changes.ask(changes)

    async def ask(self, asked: Sequence[Question]) -> Answer[Ticket | NotFound]:
        """See the contract."""

        async def work(session: Session, topics: Topics) -> Answer[Ticket | NotFound]:
            await questions.forget_old(session)
            now_us = (await session.fetch("SELECT @now"))[0][0]
            return Answer(now_us=now_us, items=await questions.ask(session, asked, topics))

        return await self._write(work)

    async def replies(self, tickets: Sequence[Ticket]) -> Answer[Reply | None]:
        """See the contract."""

        async def work(session: Session) -> Answer[Reply | None]:
            now_us = (await session.fetch("SELECT @now"))[0][0]
            return Answer(now_us=now_us, items=await questions.replies_to(session, tickets))

        return await self._read(work)


def create(ledger: Ledger, new: NewInstance) -> Created | Existing | Taken | Refused | Busy:
    """Judge a run that is to be made."""
    return judge_create(ledger, new)


def send(ledger: Ledger, message: NewMessage) -> Verdict:
    """Judge a message."""
    return judge_send(ledger, message)


def _change(ledger: Ledger, change: Change) -> Verdict:
    return judge_change(ledger, change)
