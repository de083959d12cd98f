"""The memory store's `ClientStore`: create, send, look up, change, ask."""

from __future__ import annotations

from collections.abc import Sequence

from durable.backends.limits import refuse_change, refuse_instance, refuse_message
from durable.backends.memory.rows import QuestionRow, RunRow
from durable.backends.memory.tables import Tables
from durable.backends.records import (
    MAX_UNREAD_MESSAGES,
    Accepted,
    Answer,
    Busy,
    Change,
    Created,
    End,
    Existing,
    Finished,
    InstanceRef,
    InstanceView,
    Lost,
    NewInstance,
    NewMessage,
    NotFound,
    Pause,
    Question,
    Refused,
    Reply,
    Resume,
    Stall,
    Taken,
    Ticket,
    Verdict,
)

REPLIES_KEPT_US = 10 * 60 * 1_000_000


class MemoryClientStore:
    """See `durable.backends.contract.ClientStore`."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    async def create(
        self, instances: Sequence[NewInstance]
    ) -> Answer[Created | Existing | Taken | Refused | Busy]:
        now_us = self._tables.now()
        return Answer(now_us=now_us, items=[create_one(self._tables, new, now_us) for new in instances])

    async def send(self, messages: Sequence[NewMessage]) -> Answer[Verdict]:
        now_us = self._tables.now()
        items = [refuse_message(message) or self._tables.deliver(message, now_us) for message in messages]
        return Answer(now_us=now_us, items=items)

    async def get(self, refs: Sequence[InstanceRef]) -> Answer[InstanceView | None]:
        now_us = self._tables.now()
        runs = [self._tables.at(ref) for ref in refs]
        return Answer(now_us=now_us, items=[None if run is None else run.view() for run in runs])

    # --- changes --------------------------------------------------------------------------------------------

    async def change(self, changes: Sequence[Change]) -> Answer[Verdict]:
        now_us = self._tables.now()
        return Answer(now_us=now_us, items=[self._change_one(change, now_us) for change in changes])

    def _change_one(self, change: Change, now_us: int) -> Verdict:
        if (refused := refuse_change(change)) is not None:
            return refused
        run = self._tables.at(change.ref)
        if run is None:
            return NotFound()
        if isinstance(change, End) and change.token in self._tables.instances[run.instance_id].end_tokens:
            return Accepted()
        if not run.is_open:
            return Finished(state=run.state)
        match change:
            case Pause():
                self._pause(run, change, now_us)
            case Resume():
                self._resume(run, now_us)
            case End():
                self._tables.end(run, change, now_us)
            case Stall():
                return self._stall(run, change, now_us)
        return Accepted()

    def _pause(self, run: RunRow, pause: Pause, now_us: int) -> None:
        if run.state == "paused":
            return
        run.state, run.reason, run.updated_at_us = "paused", pause.reason, now_us
        self._tables.place(run)
        for activity in run.activities.values():
            self._tables.place_activity(activity)

    def _resume(self, run: RunRow, now_us: int) -> None:
        if run.state == "running":
            return
        if run.problem is not None:  # or the run that was claimed ten times would be parked again at once
            run.claims = 0
        run.state, run.updated_at_us = "running", now_us
        run.reason = run.problem = run.retry_at_us = None
        self._tables.make_ready(run, now_us)
        for activity in run.activities.values():
            self._tables.place_activity(activity)
            self._tables.bell.ring("activity")

    def _stall(self, run: RunRow, stall: Stall, now_us: int) -> Accepted | Lost:
        if run.head != stall.head:
            return Lost()
        run.problem, run.updated_at_us = stall.problem, now_us
        run.retry_at_us = now_us + stall.retry_after_us
        if run.state != "paused":  # a paused one is tried on `Resume` in any case
            run.state = "stalled"
        self._tables.lease(run, None)
        self._tables.place(run)
        return Accepted()

    # --- questions ------------------------------------------------------------------------------------------

    async def ask(self, questions: Sequence[Question]) -> Answer[Ticket | NotFound]:
        now_us = self._tables.now()
        while (key := self._tables.old_questions.due(now_us)) is not None:
            self._tables.forget_question(key)
        return Answer(now_us=now_us, items=[self._ask_one(question, now_us) for question in questions])

    def _ask_one(self, question: Question, now_us: int) -> Ticket | NotFound:
        key = (question.ref.instance_id, question.id)
        if key not in self._tables.questions:
            if self._tables.at(question.ref) is None:
                return NotFound()
            row = QuestionRow(question=question, expires_at_us=now_us + question.timeout_us)
            self._tables.questions[key] = self._tables.unanswered[key] = row
            self._tables.old_questions.put(key, row.expires_at_us + REPLIES_KEPT_US)
            self._tables.bell.ring("question")
        return Ticket(id=question.id, instance_id=question.ref.instance_id)

    async def replies(self, tickets: Sequence[Ticket]) -> Answer[Reply | None]:
        now_us = self._tables.now()
        return Answer(now_us=now_us, items=[self._reply_to(ticket) for ticket in tickets])

    def _reply_to(self, ticket: Ticket) -> Reply | None:
        row = self._tables.questions.get((ticket.instance_id, ticket.id))
        instance = self._tables.instances.get(ticket.instance_id)
        body = row.reply if row is not None else None
        if body is None and instance is not None:
            body = instance.update_replies.get(ticket.id)
        return None if body is None else Reply(id=ticket.id, instance_id=ticket.instance_id, body=body)


def create_one(tables: Tables, new: NewInstance, now_us: int) -> Created | Existing | Taken | Refused:
    """Make a run, unless an unfinished one has the id: a client's, or the child of a checkpoint."""
    if (refused := refuse_instance(new)) is not None:
        return refused
    if tables.run(new.instance_id, new.run_id) is not None:
        return Created(run_id=new.run_id)
    found = tables.run(new.instance_id, None)
    if found is None or not found.is_open:
        tables.insert(new, now_us)
        return Created(run_id=new.run_id)
    if new.if_exists == "use" and found.workflow == new.workflow:
        return _use(tables, new, found, now_us)
    if new.if_exists == "replace" and new.replaces is not None:
        tables.end(found, new.replaces, now_us)
        tables.insert(new, now_us)
        return Created(run_id=new.run_id)
    return Taken(run_id=found.run_id, workflow=found.workflow, state=found.state)


def _use(tables: Tables, new: NewInstance, found: RunRow, now_us: int) -> Existing | Refused:
    instance = tables.instances[new.instance_id]
    fresh = {message.key for message in new.messages} - instance.keys
    if len(instance.inbox) + len(fresh) > MAX_UNREAD_MESSAGES:
        return Refused(
            reason=f"{new.instance_id!r} has {MAX_UNREAD_MESSAGES} unread messages and takes no more"
        )
    for message in new.messages:
        tables.deliver(message, now_us)
    return Existing(run_id=found.run_id)
