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
  the head still stands.
- A run that is made reserves its id as the general way does, so that nobody waits for a transaction of somebody else.

For servers whose ``WITH`` may write, and that keep all parts in one place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Generic, TypeVar

from durable.backends.limits import refuse_checkpoint, refuse_instance, refuse_message
from durable.backends.records import (
    MAX_UNREAD_MESSAGES,
    Accepted,
    Checkpoint,
    Created,
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
    "lease_owner": "id",
    "lease_us": "int",
    "status": "text",
    "state": "id",
    "result": "text",
    "failure": "text",
}
_MOVED = (
    "WITH w AS MATERIALIZED (SELECT wanted.*, @now AS now_us FROM @wanted), "
    "had AS MATERIALIZED (SELECT w.* FROM w JOIN @instances AS i "
    f"ON {_OF_RUN.format('i')} WHERE i.head_number = w.head_number AND i.head_token = w.head_token "
    "AND i.state = 'running' AND i.problem IS NULL AND i.sent = w.seen "
    "AND (w.state = 'running' OR i.children = 0) AND coalesce(w.fired_us, 0) <= w.now_us "
    "FOR UPDATE OF i SKIP LOCKED), "
    "moved AS (UPDATE @instances AS t SET state = w.state, head_number = w.head_number + w.count, "
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


@cache
def move(*, closed: bool, read: bool, cleared: bool) -> str:
    """The statement of checkpoints. A table costs the server something, whether rows of it are written or not: only
    what any of the checkpoints needs is in it.
    """
    return (
        _MOVED.format(_CLOSED if closed else "")
        + (_DROPPED if closed else "")
        + (_READ if read else "")
        + (_CLEARED if cleared else "")
        + " SELECT @now, moved.instance_id FROM moved"
    )


_SEEN, _CONSUMED, _STATE = (tuple(_STEP).index(name) for name in ("seen", "consumed", "state"))


def _move_of(rows: Iterable[Row]) -> str:
    closed = read = cleared = False
    for row in rows:
        if row[_STATE] != "running":
            closed = True
            cleared = cleared or row[_SEEN] > 0
        elif row[_CONSUMED] is not None:
            read = True
    return move(closed=closed, read=read, cleared=cleared)


def _make_of(_: Iterable[Row]) -> str:
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

    sql_of: Callable[[Iterable[Row]], str]
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
    if one.activities or one.absorbed or one.sends or one.children or one.withdrawn or one.outbox:
        return None
    if one.replies or one.vars or one.next_run is not None or refuse_checkpoint(one):
        return None
    close, lease = one.close, one.lease if one.close is None else None
    if close is not None and close.parent_body is not None:
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
        *((None, None) if lease is None else (lease.worker_id, lease.lease_us)),
        one.status,
        *(("running", None, None) if close is None else (close.state, close.result, close.failure)),
    )


def _accepted(_: Checkpoint) -> Verdict:
    return Accepted()


def _tell_moved(one: Checkpoint, topics: Topics, ended: set[str]) -> None:
    if one.close is not None:
        topics.add("closed")
        ended.add(one.instance_id)
    elif one.wake_at_us is not None:
        topics.add("workflow")


def _message(one: NewMessage) -> Row | None:
    if refuse_message(one):
        return None
    return (part(one.instance_id), one.instance_id, one.run_id, one.key, one.kind, one.body)


def _tell_of(_: Iterable[Row]) -> str:
    return TELL


def _put(_: NewMessage) -> Verdict:
    return Accepted()


def _tell_put(_: NewMessage, topics: Topics, __: set[str]) -> None:
    topics.add("workflow")


CREATIONS: OneStatement[NewInstance, Any] = OneStatement(_make_of, _NEW, _new, _created, _tell_made)
MESSAGES: OneStatement[NewMessage, Verdict] = OneStatement(_tell_of, _MESSAGE, _message, _put, _tell_put)
CHECKPOINTS: OneStatement[Checkpoint, Verdict] = OneStatement(_move_of, _STEP, _step, _accepted, _tell_moved)
