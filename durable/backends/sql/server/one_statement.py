"""Batches that one statement judges and writes: runs that are plainly made, checkpoints that touch only their own run,
messages from outside.

The general way is `judging`: lock, judge in Python, write, four round trips and more. Most of what a worker writes
needs none of that judgement, for there is one good answer and the row itself tells whether it may be given. Here the
conditions stand in the statement, the time is the server's of that moment, and a commit is one round trip.

It gives the good answers only. What is not plain, or whose row is not as it should be (another head, unread messages,
paused, held by somebody else), is not touched, and goes the general way afterwards, which knows why. So nothing here
has to tell `Lost` from `Busy`, or a repeated call from the first.

Why it is right under READ COMMITTED:

- A row is had by ``FOR UPDATE SKIP LOCKED`` in a ``WITH``, which judges the conditions on the newest version of the
  row; all that is written joins what was had. Each condition is about the row itself: nothing else that is read could
  be older than the lock. (An inbox is not looked at: the row's count of messages says whether any was not seen.)
- The key of a message is new if the table of keys takes it, which looks at what is there now.
- What is deleted besides (tasks and read messages of a run) was there before the head that the checkpoint names, and
  the head still stands. Tasks whose results it takes are had in the same way before their run; nobody waits for either.
- A run that is made reserves its id as the general way does, so that nobody waits for a transaction of somebody else.

For servers whose ``WITH`` may write, and that keep all parts in one place.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Generic, TypeVar

import orjson

from durable.backends.limits import refuse_checkpoint, refuse_instance, refuse_message
from durable.backends.records import (
    MAX_UNREAD_MESSAGES,
    Accepted,
    Checkpoint,
    Created,
    NewActivity,
    NewInstance,
    NewMessage,
    Verdict,
)
from durable.backends.sql.history import history_row
from durable.backends.sql.ledger import Events
from durable.backends.sql.needs import Needs
from durable.backends.sql.rows import dump_mapping
from durable.backends.sql.server.loading import INSTANCE_KEY, RUN_KEY, part, same
from durable.backends.sql.server.session import Row, Topics
from durable.backends.sql.server.tables import Kind

Q = TypeVar("Q")
A = TypeVar("A")

_OF_RUN = "{0}.part = w.part AND {0}.instance_id = w.instance_id AND {0}.run_id = w.run_id"

_NEW: dict[str, Kind] = {
    **RUN_KEY,
    **dict.fromkeys(("workflow", "version", "queue"), "id"),
    "tags": "json",
    "head_token": "id",
    "size": "int",
    "events": "bytes",
    "lengths": "text",
    "count": "int",
    "lease_owner": "id",
    "lease_us": "int",
    "timeout_us": "int",
}
# An id that is there is left out by looking: to insert it would be to wait for whoever holds its row.
# The events are those of the runs that were made; as a condition and not as a join, since joins are nested loops here.
MAKE = (
    "WITH w AS MATERIALIZED (SELECT wanted.*, @now AS now_us FROM @wanted WHERE @reserved AND NOT EXISTS "
    f"(SELECT 1 FROM @instances AS i WHERE {same('i', INSTANCE_KEY)})), "
    "made AS (INSERT INTO @instances (part, instance_id, run_id, workflow, version, queue, state, tags, vars, "
    "head_number, head_token, history_bytes, sent, seen, children, ready_at_us, claims, lease_owner, lease_until_us, "
    "claimable_at_us, deadline_us, overdue_at_us, created_at_us, updated_at_us, first_run_id) "
    "SELECT w.part, w.instance_id, w.run_id, w.workflow, w.version, w.queue, 'running', CAST(w.tags AS json), '{}', "
    "w.count, w.head_token, w.size, 0, 0, 0, CASE WHEN w.lease_owner IS NULL THEN w.now_us END, "
    "CASE WHEN w.lease_owner IS NULL THEN 0 ELSE 1 END, w.lease_owner, w.now_us + w.lease_us, "
    "w.now_us + coalesce(w.lease_us, 0), w.now_us + w.timeout_us, w.now_us + w.timeout_us, w.now_us, w.now_us, "
    "w.run_id FROM w ON CONFLICT DO NOTHING RETURNING instance_id), "
    "written AS (INSERT INTO @history (part, instance_id, run_id, first_number, last_number, events, lengths) "
    "SELECT w.part, w.instance_id, w.run_id, 1, w.count, w.events, w.lengths FROM w "
    "WHERE (w.instance_id IN (SELECT made.instance_id FROM made)) IS TRUE) "
    "SELECT @now, made.instance_id FROM made"
)

_STEP: dict[str, Kind] = {
    **RUN_KEY,
    "head_number": "int",
    "head_token": "id",
    "new_token": "id",
    "count": "int",
    "size": "int",
    "events": "bytes",
    "lengths": "text",
    "seen": "int",
    "consumed": "text",
    "wake_us": "int",
    "fired_us": "int",
    "absorbed": "text",
    "absorbs": "int",
    "gone": "text",
    "activities": "text",
    "lease_owner": "id",
    "lease_us": "int",
    "status": "text",
    "state": "id",
    "result": "text",
    "failure": "text",
}
_WITH = "WITH w AS MATERIALIZED (SELECT wanted.*, @now AS now_us FROM @wanted)"
# Tasks whose results are in the checkpoint: it counts only if all of them are there, with the tokens that it names.
_ABSORBED = (
    ", tasks AS MATERIALIZED (SELECT a.part, a.instance_id FROM (SELECT w.part, w.instance_id, w.run_id, b.* FROM w "
    "CROSS JOIN LATERAL json_to_recordset(CAST(w.absorbed AS json)) AS b(number bigint, token text) "
    "WHERE w.absorbed IS NOT NULL) AS b JOIN @activities AS a ON a.part = b.part AND a.instance_id = b.instance_id "
    "AND a.run_id = b.run_id AND a.number = b.number WHERE a.token = b.token FOR UPDATE OF a SKIP LOCKED), "
    "whole AS MATERIALIZED (SELECT w.* FROM w WHERE w.absorbed IS NULL OR ((w.instance_id, w.absorbs) IN "
    "(SELECT tasks.instance_id, count(*) FROM tasks GROUP BY tasks.instance_id)) IS TRUE)"
)
_HAD = (
    ", had AS MATERIALIZED (SELECT w.*, i.workflow FROM {} AS w JOIN @instances AS i "
    f"ON {_OF_RUN.format('i')} WHERE i.head_number = w.head_number AND i.head_token = w.head_token "
    "AND i.state = 'running' AND i.problem IS NULL AND i.sent = w.seen "
    "AND (w.state = 'running' OR i.children = 0) AND coalesce(w.fired_us, 0) <= w.now_us "
    "FOR UPDATE OF i SKIP LOCKED)"
)
_MOVED = (
    ", moved AS (UPDATE @instances AS t SET state = w.state, head_number = w.head_number + w.count, "
    "head_token = w.new_token, history_bytes = t.history_bytes + w.size, seen = w.seen, ready_at_us = w.wake_us, "
    "wake_at_us = w.wake_us, claims = 0, lease_owner = w.lease_owner, lease_until_us = w.now_us + w.lease_us, "
    "claim_token = NULL, claimable_at_us = CASE WHEN w.lease_owner IS NULL THEN w.wake_us "
    "ELSE w.now_us + w.lease_us END, updated_at_us = w.now_us, status = coalesce(w.status, t.status){} "
    "FROM had AS w WHERE t.part = w.part AND t.instance_id = w.instance_id RETURNING t.instance_id), "
    "written AS (INSERT INTO @history (part, instance_id, run_id, first_number, last_number, events, lengths) "
    "SELECT w.part, w.instance_id, w.run_id, w.head_number + 1, w.head_number + w.count, w.events, w.lengths "
    "FROM had AS w WHERE w.count > 0)"
)
_CLOSED = (
    ", result = w.result, failure = w.failure, closed_at_us = CASE WHEN w.state <> 'running' THEN w.now_us END, "
    "overdue_at_us = CASE WHEN w.state = 'running' THEN t.overdue_at_us END"
)
_DROPPED = (
    ", dropped AS (DELETE FROM @activities AS a USING had AS w "
    f"WHERE w.state <> 'running' AND {_OF_RUN.format('a')})"
)
_READ = (
    ", read AS (DELETE FROM @inbox AS m USING (SELECT w.part, w.instance_id, "
    "CAST(unnest(string_to_array(w.consumed, ',')) AS bigint) AS number FROM had AS w "
    "WHERE w.state = 'running' AND w.consumed IS NOT NULL) AS c "
    "WHERE m.part = c.part AND m.instance_id = c.instance_id AND m.number = c.number)"
)
_CLEARED = (
    ", cleared AS (DELETE FROM @inbox AS m USING had AS w WHERE w.state <> 'running' AND w.seen > 0 "
    "AND m.part = w.part AND m.instance_id = w.instance_id)"
)


_GONE = (
    ", gone AS (DELETE FROM @activities AS a USING (SELECT w.part, w.instance_id, w.run_id, "
    "CAST(unnest(string_to_array(w.gone, ',')) AS bigint) AS number FROM had AS w "
    "WHERE w.state = 'running' AND w.gone IS NOT NULL) AS b WHERE a.part = b.part "
    "AND a.instance_id = b.instance_id AND a.run_id = b.run_id AND a.number = b.number)"
)
_SCHEDULED = (
    ", scheduled AS (INSERT INTO @activities (part, run_id, number, instance_id, workflow, name, queue, payload, "
    "options, scheduled_at_us, due_at_us, attempt, deliveries, token, lease_until_us, expires_at_us, parked, expired, "
    "held, claimable_at_us, expirable_at_us) SELECT w.part, w.run_id, b.number, w.instance_id, w.workflow, b.name, "
    "b.queue, b.payload, b.options, w.now_us, w.now_us, 1, CASE WHEN b.token IS NULL THEN 0 ELSE 1 END, b.token, "
    "w.now_us + b.lease_us, w.now_us + b.limit_us, 0, 0, 0, w.now_us + coalesce(b.lease_us, 0), "
    "CASE WHEN b.token IS NULL THEN w.now_us + b.limit_us END FROM had AS w CROSS JOIN LATERAL "
    "json_to_recordset(CAST(w.activities AS json)) AS b(number bigint, name text, queue text, payload text, "
    "options text, limit_us bigint, token text, lease_us bigint) WHERE w.activities IS NOT NULL)"
)


@cache
def move(
    *,
    closed: bool = False,
    read: bool = False,
    cleared: bool = False,
    absorbed: bool = False,
    gone: bool = False,
    scheduled: bool = False,
) -> str:
    """The statement of checkpoints. A table costs the server something, whether rows of it are written or not: only
    what any of the checkpoints needs is in it.
    """
    return (
        _WITH
        + (_ABSORBED if absorbed else "")
        + _HAD.format("whole" if absorbed else "w")
        + _MOVED.format(_CLOSED if closed else "")
        + (_DROPPED if closed else "")
        + (_READ if read else "")
        + (_CLEARED if cleared else "")
        + (_GONE if gone else "")
        + (_SCHEDULED if scheduled else "")
        + " SELECT @now, moved.instance_id FROM moved"
    )


_AT = {name: n for n, name in enumerate(_STEP)}


def _move_of(rows: Sequence[Row]) -> str:
    closing = [row for row in rows if row[_AT["state"]] != "running"]
    return move(
        closed=bool(closing),
        read=any(row[_AT["consumed"]] is not None for row in rows),
        cleared=any(row[_AT["seen"]] > 0 for row in closing),
        absorbed=any(row[_AT["absorbed"]] is not None for row in rows),
        gone=any(row[_AT["gone"]] is not None for row in rows),
        scheduled=any(row[_AT["activities"]] is not None for row in rows),
    )


def _make_of(_: Sequence[Row]) -> str:
    return MAKE


_MESSAGE: dict[str, Kind] = {**INSTANCE_KEY, "run_id": "id", "key": "id", "kind": "id", "body": "text"}
_READY = "least(coalesce(t.ready_at_us, w.now_us), w.now_us)"
# A key that is known already is told by the table itself: what is inserted is compared with the newest there is.
TELL = (
    "WITH w AS MATERIALIZED (SELECT wanted.*, @now AS now_us FROM @wanted), "
    "had AS MATERIALIZED (SELECT w.*, i.sent FROM w JOIN @instances AS i ON i.part = w.part "
    "AND i.instance_id = w.instance_id WHERE i.state = 'running' AND (w.run_id IS NULL OR i.run_id = w.run_id) "
    f"AND i.sent - i.seen < {MAX_UNREAD_MESSAGES} FOR UPDATE OF i SKIP LOCKED), "
    "keyed AS (INSERT INTO @message_keys (part, instance_id, key) SELECT w.part, w.instance_id, w.key FROM had AS w "
    "ON CONFLICT DO NOTHING RETURNING instance_id), "
    "new AS MATERIALIZED (SELECT w.* FROM had AS w "
    "WHERE (w.instance_id IN (SELECT keyed.instance_id FROM keyed)) IS TRUE), "
    f"told AS (UPDATE @instances AS t SET sent = t.sent + 1, ready_at_us = {_READY}, claimable_at_us = "
    f"CASE WHEN t.lease_owner IS NULL THEN {_READY} ELSE t.lease_until_us END "
    "FROM new AS w WHERE t.part = w.part AND t.instance_id = w.instance_id RETURNING t.instance_id), "
    "put AS (INSERT INTO @inbox (part, instance_id, number, run_id, key, kind, body, sent_at_us) "
    "SELECT w.part, w.instance_id, w.sent + 1, w.run_id, w.key, w.kind, w.body, w.now_us FROM new AS w) "
    "SELECT @now, told.instance_id FROM told"
)


@dataclass(frozen=True, slots=True)
class OneStatement(Generic[Q, A]):
    """How a kind of batch is done in one statement, which gives the time and the ids of the instances it was done for.

    ``row``: what the statement needs of an item (its part and its instance's id lead), or ``None`` if it is not plain.
    ``sql_of``: the statement for such rows. ``tell``: adds the topics to ring for, and the id of an instance that has
    ended.
    """

    sql_of: Callable[[Sequence[Row]], str]
    columns: Mapping[str, Kind]
    row: Callable[[Q], Row | None]
    verdict: Callable[[Q], A]
    tell: Callable[[Q, Topics, set[str]], None]

    def plain(self, items: Sequence[Q], needs_of: Callable[[Sequence[Q]], Needs]) -> dict[int, Row]:
        """The rows of the items that can be done before all others, whatever comes of these."""
        rows = [self.row(item) for item in items]
        named: dict[str, int] = {}
        for row in rows:
            if row is not None:
                named[row[1]] = named.get(row[1], 0) + 1
        if len(named) == len(rows):
            return dict(enumerate(rows))  # type: ignore[arg-type]  # as many names as rows: none is None
        touched = {name for name, times in named.items() if times > 1}
        last = len(items)
        for n, item in enumerate(items):
            if rows[n] is None:
                needs = needs_of([item])
                touched.update(needs.instances, (key.instance_id for key in needs.activities))
                if needs.ending:  # its parent is known to its row alone
                    last = min(last, n)
        return {n: row for n, row in enumerate(rows[:last]) if row is not None and row[1] not in touched}


def _new(new: NewInstance) -> Row | None:
    if new.if_exists != "fail" or new.messages or new.parent is not None or new.start_at_us is not None:
        return None
    if refuse_instance(new):
        return None
    at = part(new.instance_id)
    *_, blob, lengths = history_row(Events(at, new.instance_id, new.run_id, 1, new.events))
    lease = new.lease
    return (
        *(at, new.instance_id, new.run_id, new.workflow, new.version, new.queue, dump_mapping(new.tags)),
        *(new.head.token, sum(map(len, new.events)), blob, lengths, len(new.events)),
        *((None, None) if lease is None else (lease.worker_id, lease.lease_us)),
        new.timeout_us,
    )


def _created(new: NewInstance) -> Created:
    return Created(run_id=new.run_id)


def _tell_made(new: NewInstance, topics: Topics, _: set[str]) -> None:
    if new.lease is None:  # else whoever made it begins it
        topics.add("workflow")


def _step(one: Checkpoint) -> Row | None:
    if one.sends or one.children or one.outbox or one.replies or one.vars or one.next_run is not None:
        return None
    close = one.close
    if (close is not None and close.parent_body is not None) or refuse_checkpoint(one):
        return None
    lease = one.lease if close is None else None
    tasks: tuple[Any, ...] = (None, None, None, None)
    if (one.activities or one.absorbed or one.withdrawn) and not (tasks := _tasks(one)):
        return None
    at, count = part(one.instance_id), len(one.events)
    blob = lengths = None
    if count:
        *_, blob, lengths = history_row(Events(at, one.instance_id, one.run_id, 1, one.events))
    return (
        *(at, one.instance_id, one.run_id, one.head.number, one.head.token, one.new_head.token),
        *(count, sum(map(len, one.events)), blob, lengths, one.seen),
        ",".join(map(str, one.consumed)) if one.consumed else None,
        *(one.wake_at_us if close is None else None, one.fired_until_us),
        *tasks,
        *((None, None) if lease is None else (lease.worker_id, lease.lease_us)),
        one.status,
        *(("running", None, None) if close is None else (close.state, close.result, close.failure)),
    )


def _tasks(one: Checkpoint) -> tuple[Any, ...]:
    """What goes, and what is new. Nothing if a number does both, or a text is odd: one statement cannot do that."""
    gone = {*one.withdrawn, *(task.number for task in one.absorbed)}
    if any(new.number in gone for new in one.activities):
        return ()
    absorbed = orjson.dumps([{"number": task.number, "token": task.token} for task in one.absorbed]).decode()
    new = orjson.dumps([] if one.close is not None else list(map(_task, one.activities))).decode()
    if any(mark in text for text in (absorbed, new) for mark in _ODD):
        return ()
    return (
        absorbed if one.absorbed else None,
        len(one.absorbed),
        ",".join(map(str, sorted(gone))) if gone else None,
        None if new == "[]" else new,
    )


_ODD = ("\\u0000", "\\u001a")
"""Characters that a server may keep in its own way, as JSON has them."""


def _task(new: NewActivity) -> dict[str, Any]:
    lease = new.lease
    return {
        "number": new.number,
        "name": new.name,
        "queue": new.queue,
        "payload": new.payload,
        "options": new.options,
        "limit_us": new.queue_timeout_us,
        "token": None if lease is None else lease.token,
        "lease_us": None if lease is None else lease.lease_us,
    }


def _accepted(_: Checkpoint) -> Verdict:
    return Accepted()


def _tell_moved(one: Checkpoint, topics: Topics, ended: set[str]) -> None:
    if one.close is not None:
        topics.add("closed")
        ended.add(one.instance_id)
        return
    if one.wake_at_us is not None:
        topics.add("workflow")
    if any(new.lease is None for new in one.activities):  # else whoever wrote them begins them
        topics.add("activity")


def _message(one: NewMessage) -> Row | None:
    if refuse_message(one):
        return None
    return (part(one.instance_id), one.instance_id, one.run_id, one.key, one.kind, one.body)


def _tell_of(_: Sequence[Row]) -> str:
    return TELL


def _put(_: NewMessage) -> Verdict:
    return Accepted()


def _tell_put(_: NewMessage, topics: Topics, __: set[str]) -> None:
    topics.add("workflow")


CREATIONS: OneStatement[NewInstance, Any] = OneStatement(_make_of, _NEW, _new, _created, _tell_made)
MESSAGES: OneStatement[NewMessage, Verdict] = OneStatement(_tell_of, _MESSAGE, _message, _put, _tell_put)
CHECKPOINTS: OneStatement[Checkpoint, Verdict] = OneStatement(_move_of, _STEP, _step, _accepted, _tell_moved)
