"""The SQLite store's `ClientStore`."""

from __future__ import annotations

import sqlite3
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
from durable.backends.sql.rows import RunRow
from durable.backends.sqlite import questions
from durable.backends.sqlite.calls import Calls
from durable.backends.sqlite.crews import Transaction
from durable.backends.sqlite.rows_io import CURRENT_RUN, PAST_RUN, part


class ClientCalls(Calls):
    """See `durable.backends.contract.ClientStore`."""

    async def create(
        self, instances: Sequence[NewInstance]
    ) -> Answer[Created | Existing | Taken | Refused | Busy]:
        """See the contract."""

        def judge(ledger: Ledger, new: NewInstance) -> Created | Existing | Taken | Refused | Busy:
            return judge_create(ledger, new)

        return await self._judged(instances, needs.of_instances, judge)

    async def send(self, messages: Sequence[NewMessage]) -> Answer[Verdict]:
        """See the contract."""

        def judge(ledger: Ledger, message: NewMessage) -> Verdict:
            return judge_send(ledger, message)

        return await self._judged(messages, needs.of_messages, judge)

    async def get(self, refs: Sequence[InstanceRef]) -> Answer[InstanceView | None]:
        """See the contract."""
        asked = tuple(refs)
        return await self._read(lambda tx: Answer(now_us=tx.now_us, items=[_view(tx, ref) for ref in asked]))

    async def change(self, changes: Sequence[Change]) -> Answer[Verdict]:
        """See the contract."""

        def judge(ledger: Ledger, change: Change) -> Verdict:
            return judge_change(ledger, change)

        return await self._judged(changes, needs.of_changes, judge)

    async def ask(self, asked: Sequence[Question]) -> Answer[Ticket | NotFound]:
        """See the contract."""
        all_of_them = tuple(asked)

        def work(tx: Transaction) -> Answer[Ticket | NotFound]:
            questions.forget_old(tx)
            return Answer(now_us=tx.now_us, items=[questions.ask(tx, question) for question in all_of_them])

        return await self._write(work)

    async def replies(self, tickets: Sequence[Ticket]) -> Answer[Reply | None]:
        """See the contract."""
        asked = tuple(tickets)
        return await self._read(
            lambda tx: Answer(now_us=tx.now_us, items=[questions.reply_to(tx, ticket) for ticket in asked])
        )


def _view(tx: Transaction, ref: InstanceRef) -> InstanceView | None:
    row = read_run(tx.db, CURRENT_RUN, (part(ref.instance_id), ref.instance_id))
    if row is not None and ref.run_id is not None and row.run_id != ref.run_id:
        row = read_run(tx.db, PAST_RUN, (part(ref.instance_id), ref.instance_id, ref.run_id))
    return None if row is None else row.view()


def read_run(db: sqlite3.Connection, sql: str, values: tuple[object, ...]) -> RunRow | None:
    """A row to be looked at. Bytes that are no text are shown with replacement characters, not refused."""
    try:
        found = db.execute(sql, values).fetchone()
    except sqlite3.OperationalError as error:
        if "UTF-8" not in str(error):
            raise
        plain, db.text_factory = db.text_factory, lambda raw: raw.decode(errors="replace")
        try:
            found = db.execute(sql, values).fetchone()
        finally:
            db.text_factory = plain
    return None if found is None else RunRow(*found)
