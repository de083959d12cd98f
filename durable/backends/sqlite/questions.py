"""Queries: put by clients, handed to one worker at a time, answered, and kept for ten minutes after."""

from __future__ import annotations

from durable.backends.records import (
    Accepted,
    AskedTask,
    Claimant,
    Lost,
    NotFound,
    Question,
    Reply,
    Ticket,
)
from durable.backends.sql.handed import LastClaims
from durable.backends.sql.ledger import Ledger, RunKey
from durable.backends.sql.rows import RunRow
from durable.backends.sqlite.crews import Transaction
from durable.backends.sqlite.rows_io import insert, load_past_run, load_runs, part

KEPT_US = 10 * 60 * 1_000_000

_FORGET = "DELETE FROM questions WHERE kept_until_us <= ?"
_THERE = "SELECT 1 FROM questions WHERE part = ? AND instance_id = ? AND id = ?"
_ASK = insert(
    "questions",
    (
        *("part", "id", "instance_id", "run_id", "name", "body", "asked_at_us", "expires_at_us"),
        *("claimable_at_us", "kept_until_us"),
    ),
)
_WAITING = (
    "SELECT part, id, instance_id, run_id, name, body, expires_at_us FROM questions "
    "WHERE claimable_at_us <= ? ORDER BY claimable_at_us"
)
_HELD = "SELECT claimable_at_us FROM questions WHERE part = ? AND instance_id = ? AND id = ?"
_ONE = (
    "SELECT part, id, instance_id, run_id, name, body, expires_at_us FROM questions "
    "WHERE part = ? AND instance_id = ? AND id = ?"
)
_HOLD = "UPDATE questions SET claimable_at_us = ? WHERE part = ? AND instance_id = ? AND id = ?"
_NEXT_HELD = "SELECT min(claimable_at_us) FROM questions WHERE claimable_at_us > ?"
_ANSWER = (
    "UPDATE questions SET reply = ?, claimable_at_us = NULL, kept_until_us = ? "
    "WHERE part = ? AND instance_id = ? AND id = ? AND reply IS NULL AND claimable_at_us IS NOT NULL "
    "AND expires_at_us > ?"
)
_REPLY = "SELECT reply FROM questions WHERE part = ? AND instance_id = ? AND id = ?"
_UPDATE_REPLY = "SELECT body FROM update_replies WHERE part = ? AND instance_id = ? AND id = ?"

Row = tuple[int, str, str, str | None, str, str, int]
QuestionKey = tuple[str, str]
"""Instance id, question id."""


def ask(tx: Transaction, question: Question) -> Ticket | NotFound:
    """Put a question."""
    ref = question.ref
    key = (part(ref.instance_id), ref.instance_id, question.id)
    if tx.db.execute(_THERE, key).fetchone() is None:
        if _run(tx, ref.instance_id, ref.run_id) is None:
            return NotFound()
        now, expires = tx.now_us, tx.now_us + question.timeout_us
        names = (key[0], question.id, ref.instance_id, ref.run_id, question.name, question.body)
        tx.db.execute(_ASK, (*names, now, expires, now, expires + KEPT_US))
        tx.topics.add("question")
    return Ticket(id=question.id, instance_id=ref.instance_id)


def forget_old(tx: Transaction) -> None:
    """Remove questions that nobody will look up any more."""
    tx.db.execute(_FORGET, (tx.now_us,))


class QuestionClaims:
    """Hands out questions. They are few and live for seconds, so a claim looks at each that waits."""

    def __init__(self) -> None:
        self._last: LastClaims[QuestionKey] = LastClaims()

    def claim(self, tx: Transaction, claimant: Claimant, limit: int) -> tuple[list[AskedTask], int | None]:
        """Up to ``limit`` questions, and when the lease of the next one that is held runs out."""
        until_us, before = self._last.again(claimant)
        items = [(key, task) for key in before if (task := _handed_again(tx, until_us, key))]
        until_us = until_us if items else tx.now_us + claimant.lease_us
        kinds = {(one.workflow, one.version) for one in claimant.workflows}
        for row in tx.db.execute(_WAITING, (tx.now_us,)).fetchall():
            if len(items) >= limit:
                break
            task = _look(tx, row)
            if task is None:
                tx.db.execute(_HOLD, (None, row[0], row[2], row[1]))
            elif (task.workflow, task.version) in kinds:
                tx.db.execute(_HOLD, (tx.now_us + claimant.lease_us, row[0], row[2], row[1]))
                items.append(((row[2], row[1]), task))
        self._last.remember(claimant, until_us, [key for key, _ in items])
        next_us = tx.db.execute(_NEXT_HELD, (tx.now_us,)).fetchone()[0]
        return [task for _, task in items], next_us


def _look(tx: Transaction, row: Row) -> AskedTask | None:
    """The question with its run; ``None`` when it has run out or its run is gone."""
    _, question_id, instance_id, run_id, name, body, expires_at_us = row
    run = _run(tx, instance_id, run_id)
    if run is None or expires_at_us <= tx.now_us:
        return None
    return AskedTask(
        question_id=question_id,
        name=name,
        body=body,
        instance_id=instance_id,
        run_id=run.run_id,
        workflow=run.workflow,
        version=run.version,
        head=run.head,
    )


def _handed_again(tx: Transaction, until_us: int, key: QuestionKey) -> AskedTask | None:
    values = (part(key[0]), *key)
    if tx.db.execute(_HELD, values).fetchone() != (until_us,):
        return None
    return _look(tx, tx.db.execute(_ONE, values).fetchone())


def answer(tx: Transaction, reply: Reply) -> Accepted | Lost:
    """Answer a question that still waits."""
    key = (part(reply.instance_id), reply.instance_id, reply.id)
    changed = tx.db.execute(_ANSWER, (reply.body, tx.now_us + KEPT_US, *key, tx.now_us)).rowcount
    if changed:
        tx.topics.add("reply")
    return Accepted() if changed else Lost()


def reply_to(tx: Transaction, ticket: Ticket) -> Reply | None:
    """The answer to a question or an update."""
    key = (part(ticket.instance_id), ticket.instance_id, ticket.id)
    for sql in (_REPLY, _UPDATE_REPLY):
        found = tx.db.execute(sql, key).fetchone()
        if found is not None and found[0] is not None:
            return Reply(id=ticket.id, instance_id=ticket.instance_id, body=found[0])
    return None


def _run(tx: Transaction, instance_id: str, run_id: str | None) -> RunRow | None:
    ledger = Ledger(tx.now_us)
    load_runs(tx.db, ledger, [instance_id])
    row = ledger.runs[instance_id]
    if row is not None and run_id is not None and row.run_id != run_id:
        load_past_run(tx.db, ledger, RunKey(instance_id, run_id))
    return ledger.run(instance_id, run_id)
