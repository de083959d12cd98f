"""Claims of runs: those that are ready, overdue or stalled, and ended ones whose children are to be closed.

A claim first finds keys with small queries, each of which is one range of one index, whatever else is due. Then it
reads the rows one by one, so that a row that cannot be read hurts only its own instance: it is parked.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, NamedTuple, cast

from durable.backends.records import (
    MAX_MESSAGES_PER_TASK,
    ChildRef,
    Claimant,
    Closing,
    Message,
    Overdue,
    ParentClose,
    WorkflowTask,
)
from durable.backends.sql.changes import NEVER_US, lease_run, take_run, workflow_task
from durable.backends.sql.handed import LastClaims
from durable.backends.sql.ledger import Ledger, RunKey
from durable.backends.sql.rows import InboxRow, RunRow
from durable.backends.sqlite.crews import Transaction
from durable.backends.sqlite.reading import read_events
from durable.backends.sqlite.rows_io import CURRENT_RUN, INBOX_HEAD, KEY, load_runs, part, save

CHILDREN_AT_ONCE = 100

# Ties go by the id: it stands in the index, so that nothing is sorted.
READY = (
    "SELECT claimable_at_us, instance_id FROM instances "
    "WHERE queue = ? AND workflow = ? AND version = ? AND claimable_at_us <= ? "
    "ORDER BY claimable_at_us, instance_id LIMIT ?"
)
OWN = (
    "SELECT ready_at_us, instance_id, queue, workflow, version FROM instances "
    "WHERE lease_owner = ? AND ready_at_us IS NOT NULL AND state = 'running' ORDER BY ready_at_us, instance_id"
)
OVERDUE = "SELECT instance_id FROM instances WHERE overdue_at_us <= ? ORDER BY overdue_at_us LIMIT ?"
SET_OVERDUE = "UPDATE instances SET overdue_at_us = ? WHERE part = ? AND instance_id = ?"
RETRYABLE = (
    "SELECT retryable_at_us, instance_id FROM instances "
    "WHERE queue = ? AND workflow = ? AND version = ? AND retryable_at_us <= ? "
    "ORDER BY retryable_at_us, instance_id LIMIT ?"
)
STALLED_ELSEWHERE = (
    "SELECT created_at_us, instance_id FROM instances "
    "WHERE queue = ? AND workflow = ? AND version = ? AND retryable_at_us IS NOT NULL "
    "AND problem_build IS NOT ? AND coalesce(lease_until_us, 0) <= ? LIMIT ?"
)
CLOSINGS = "SELECT part, instance_id, run_id FROM closings WHERE claimable_at_us <= ? ORDER BY claimable_at_us LIMIT ?"
CLOSING = "SELECT claimable_at_us FROM closings WHERE part = ? AND instance_id = ? AND run_id = ?"
SET_CLOSING = "UPDATE closings SET claimable_at_us = ? WHERE part = ? AND instance_id = ? AND run_id = ?"
DROP_CLOSING = "DELETE FROM closings WHERE part = ? AND instance_id = ? AND run_id = ?"
UNFINISHED_CHILDREN = (
    "SELECT instance_id, run_id, parent_close FROM instances "
    "WHERE parent_id = ? AND parent_run_id = ? AND closed_at_us IS NULL AND parent_close <> 'abandon' "
    "ORDER BY created_at_us, run_id"
)
NEXT_READY = (
    "SELECT min(claimable_at_us) FROM instances "
    "WHERE queue = ? AND workflow = ? AND version = ? AND claimable_at_us IS NOT NULL"
)
NEXT_OVERDUE = "SELECT min(overdue_at_us) FROM instances WHERE overdue_at_us IS NOT NULL"
NEXT_CLOSING = "SELECT min(claimable_at_us) FROM closings"
NEXT_RETRYABLE = (
    "SELECT min(retryable_at_us) FROM instances "
    "WHERE queue = ? AND workflow = ? AND version = ? AND retryable_at_us IS NOT NULL"
)
_PARK = (
    "UPDATE instances SET state = 'stalled', problem = ?, problem_build = '', problem_stalls = 1, "
    "claimable_at_us = NULL, lease_owner = NULL, retry_at_us = ?, retryable_at_us = ? "
    "WHERE part = ? AND instance_id = ?"
)
# Its deadline stands: the time-out of an instance is kept while it is parked, too.

Task = WorkflowTask | Overdue | Closing
Kind = tuple[str, str, str]
"""Queue, workflow, version."""

UNREADABLE = (sqlite3.OperationalError, sqlite3.DataError, ValueError, TypeError)


class HandedRun(NamedTuple):
    """What a claim was handed: a ``run``, an ``overdue`` one, or a ``closing``."""

    what: str
    instance_id: str
    run_id: str


class RunClaims:
    """Hands out runs."""

    def __init__(self) -> None:
        self._last: LastClaims[HandedRun] = LastClaims()
        self._last_stalled: LastClaims[HandedRun] = LastClaims()

    # --- ready, overdue and closing

    def claim(self, tx: Transaction, claimant: Claimant, limit: int) -> tuple[list[Task], int | None]:
        """Up to ``limit`` tasks, and when the next one is ready."""
        until_us, before = self._last.again(claimant)
        items: list[tuple[HandedRun, Task]] = _still_handed(tx, claimant, until_us, before)
        new_until_us = tx.now_us + claimant.lease_us
        for source in (_take_overdue, _take_closings, _take_ready):
            if len(items) < limit:
                items += source(tx, claimant, limit - len(items))
        self._last.remember(claimant, new_until_us if not before else until_us, [key for key, _ in items])
        return [task for _, task in items], _next_wake(tx.db, claimant)

    # --- stalled

    def claim_stalled(
        self, tx: Transaction, claimant: Claimant, limit: int, *, at_start: bool
    ) -> tuple[list[WorkflowTask], int | None]:
        """Up to ``limit`` stalled runs."""
        until_us, before = self._last_stalled.again(claimant)
        items: list[tuple[HandedRun, Task]] = _still_handed(tx, claimant, until_us, before)
        if len(items) < limit:
            find = _stalled_elsewhere if at_start else _retryable
            items += _hand_out(tx, claimant, find(tx, claimant, limit - len(items)), _lease_stalled)
        self._last_stalled.remember(claimant, tx.now_us + claimant.lease_us, [key for key, _ in items])
        next_us = None if at_start else _least(tx.db, [(NEXT_RETRYABLE, kind) for kind in _kinds(claimant)])
        tasks = [task for _, task in items if isinstance(task, WorkflowTask)]
        return tasks, next_us if next_us is not None and next_us < NEVER_US else None


def _kinds(claimant: Claimant) -> list[Kind]:
    kinds = [(queue, one.workflow, one.version) for queue in claimant.queues for one in claimant.workflows]
    return list(dict.fromkeys(kinds))


def _next_wake(db: sqlite3.Connection, claimant: Claimant) -> int | None:
    queries: list[tuple[str, tuple[str, ...]]] = [(NEXT_READY, kind) for kind in _kinds(claimant)]
    queries += [(NEXT_OVERDUE, ()), (NEXT_CLOSING, ())]
    found = [_least(db, queries), next((due for due, _ in _own(db, claimant)), None)]
    return min((due for due in found if due is not None), default=None)


def _least(db: sqlite3.Connection, queries: Iterable[tuple[str, tuple[str, ...]]]) -> int | None:
    found = (db.execute(sql, values).fetchone()[0] for sql, values in queries)
    return min((due for due in found if due is not None), default=None)


# --- finding


def _take_ready(tx: Transaction, claimant: Claimant, limit: int) -> list[tuple[HandedRun, Task]]:
    items: list[tuple[HandedRun, Task]] = []
    while len(items) < limit:
        names = _ready(tx, claimant, limit - len(items))
        items += _hand_out(tx, claimant, names, take_run)
        if len(names) < limit:
            break
    return items


def _ready(tx: Transaction, claimant: Claimant, limit: int) -> list[str]:
    kinds = _kinds(claimant)
    found: dict[str, int] = {}
    for kind in kinds:
        found.update((name, due) for due, name in tx.db.execute(READY, (*kind, tx.now_us, limit)))
    for due, name in islice(_own(tx.db, claimant), limit):
        if due > tx.now_us:
            break
        found.setdefault(name, due)
    return [name for _, name in sorted((due, name) for name, due in found.items())[:limit]]


def _own(db: sqlite3.Connection, claimant: Claimant) -> Iterator[tuple[int, str]]:
    """Runs that the claimant has a lease on, with the times at which they are ready again, earliest first."""
    kinds = set(_kinds(claimant))
    for due, name, queue, workflow, version in db.execute(OWN, (claimant.worker_id,)):
        if (queue, workflow, version) in kinds:
            yield due, name


def _retryable(tx: Transaction, claimant: Claimant, limit: int) -> list[str]:
    found: list[tuple[int, str]] = []
    for kind in _kinds(claimant):
        found += tx.db.execute(RETRYABLE, (*kind, tx.now_us, limit)).fetchall()
    return [name for _, name in sorted(found)[:limit]]


def _stalled_elsewhere(tx: Transaction, claimant: Claimant, limit: int) -> list[str]:
    found: list[tuple[int, str]] = []
    for queue in claimant.queues:
        for one in claimant.workflows:
            values = (queue, one.workflow, one.version, one.build, tx.now_us, limit)
            found += tx.db.execute(STALLED_ELSEWHERE, values).fetchall()
    return [name for _, name in sorted(set(found))[:limit]]


def _lease_stalled(ledger: Ledger, row: RunRow, claimant: Claimant) -> bool:
    lease_run(ledger, row, claimant)
    return True


# --- handing out


def _hand_out(
    tx: Transaction,
    claimant: Claimant,
    names: Iterable[str],
    take: Callable[[Ledger, RunRow, Claimant], bool],
) -> list[tuple[HandedRun, Task]]:
    ledger = Ledger(tx.now_us)
    items: list[tuple[HandedRun, Task]] = []
    for name in names:
        try:
            load_runs(tx.db, ledger, [name])
            row = ledger.runs[name]
            if row is not None and (task := _task(tx, row, lambda row: take(ledger, row, claimant))):
                items.append((HandedRun("run", name, row.run_id), task))
        except UNREADABLE as error:
            _give_up(ledger, name)
            park(tx, name, error)
    save(tx.db, ledger)
    return items


def _task(tx: Transaction, row: RunRow, take: Callable[[RunRow], bool]) -> WorkflowTask | None:
    messages = _messages(tx.db, row)
    if not take(row):
        return None
    all_of_them = len(messages) <= MAX_MESSAGES_PER_TASK
    events = None
    if row.head_number == 1:  # it was just made: its one event is a look-up away
        events = read_events(tx.db, RunKey(row.instance_id, row.run_id), 0) or None
    return workflow_task(row, messages[:MAX_MESSAGES_PER_TASK], all_of_them=all_of_them, events=events)


def _messages(db: sqlite3.Connection, row: RunRow) -> tuple[Message, ...]:
    if not row.sent:
        return ()
    rows = db.execute(INBOX_HEAD, (row.part, row.instance_id, MAX_MESSAGES_PER_TASK + 1))
    found = (InboxRow(*values) for values in rows)
    return tuple(
        Message(number=one.number, key=one.key, kind=one.kind, body=one.body, sent_at_us=one.sent_at_us)
        for one in found
    )


def _give_up(ledger: Ledger, name: str) -> None:
    ledger.runs.pop(name, None)
    ledger.read_runs.pop(name, None)


def park(tx: Transaction, instance_id: str, error: Exception) -> None:
    """Stall a run whose rows cannot be read."""
    text = " ".join(str(error).split())
    report = json.dumps({"kind": "unreadable", "message": f"a row of {instance_id!r} cannot be read: {text}"})
    tx.db.execute(_PARK, (report, NEVER_US, NEVER_US, part(instance_id), instance_id))


def _still_handed(
    tx: Transaction, claimant: Claimant, until_us: int, before: list[HandedRun]
) -> list[tuple[HandedRun, Task]]:
    items: list[tuple[HandedRun, Task]] = []
    for key in before:
        task = _handed_again(tx, claimant, until_us, key)
        if task is not None:
            items.append((key, task))
    return items


def _handed_again(tx: Transaction, claimant: Claimant, until_us: int, key: HandedRun) -> Task | None:
    if key.what == "closing":
        values = (part(key.instance_id), key.instance_id, key.run_id)
        found = tx.db.execute(CLOSING, values).fetchone()
        return _closing(tx.db, RunKey(key.instance_id, key.run_id)) if found == (until_us,) else None
    values_of_run = tx.db.execute(CURRENT_RUN, (part(key.instance_id), key.instance_id)).fetchone()
    row = None if values_of_run is None else RunRow(*values_of_run)
    if row is None or row.run_id != key.run_id:
        return None
    if key.what == "overdue":
        return _overdue(row) if row.overdue_at_us == until_us else None
    mine = row.lease_owner == claimant.worker_id and row.claim_token == claimant.token
    return _task(tx, row, lambda _: True) if mine else None


# --- overdue


def _take_overdue(tx: Transaction, claimant: Claimant, limit: int) -> list[tuple[HandedRun, Task]]:
    items: list[tuple[HandedRun, Task]] = []
    for (name,) in tx.db.execute(OVERDUE, (tx.now_us, limit)).fetchall():
        row: RunRow | None
        try:
            row = RunRow(*tx.db.execute(CURRENT_RUN, (part(name), name)).fetchone())
        except UNREADABLE as error:
            park(tx, name, error)
            row = None
        # Also a row that cannot be read is looked at once in a lease only, not in every claim.
        tx.db.execute(SET_OVERDUE, (tx.now_us + claimant.lease_us, part(name), name))
        if row is not None:
            items.append((HandedRun("overdue", name, row.run_id), _overdue(row)))
    return items


def _overdue(row: RunRow) -> Overdue:
    return Overdue(
        instance_id=row.instance_id,
        run_id=row.run_id,
        workflow=row.workflow,
        deadline_us=row.deadline_us or 0,
        parent=row.parent,
    )


# --- closing


def _take_closings(tx: Transaction, claimant: Claimant, limit: int) -> list[tuple[HandedRun, Task]]:
    items: list[tuple[HandedRun, Task]] = []
    until_us = tx.now_us + claimant.lease_us
    for its_part, instance_id, run_id in tx.db.execute(CLOSINGS, (tx.now_us, limit)).fetchall():
        closing = _closing(tx.db, RunKey(instance_id, run_id))
        if closing is None:
            tx.db.execute(DROP_CLOSING, (its_part, instance_id, run_id))
        else:
            tx.db.execute(SET_CLOSING, (until_us, its_part, instance_id, run_id))
            items.append((HandedRun("closing", instance_id, run_id), closing))
    return items


def _closing(db: sqlite3.Connection, parent: RunKey) -> Closing | None:
    children: list[ChildRef] = []
    for child in children_to_close(db, parent):
        children.append(child)
        if len(children) > CHILDREN_AT_ONCE:
            break
    if not children:
        return None
    return Closing(
        instance_id=parent.instance_id,
        run_id=parent.run_id,
        children=tuple(children[:CHILDREN_AT_ONCE]),
        more=len(children) > CHILDREN_AT_ONCE,
    )


def children_to_close(db: sqlite3.Connection, parent: RunKey) -> Iterator[ChildRef]:
    """The children that are unfinished, not abandoned, and were not yet asked to end; oldest first."""
    key = f"close/{parent.run_id}"
    rows: Any = db.execute(UNFINISHED_CHILDREN, parent)
    for instance_id, run_id, close in rows:
        asked = close == "cancel" and db.execute(KEY, (part(instance_id), instance_id, key)).fetchone()
        if not asked:
            yield ChildRef(instance_id=instance_id, run_id=run_id, close=cast(ParentClose, close))


def close_done(tx: Transaction, parent: RunKey) -> None:
    """Forget that this run's children are to be closed, if there are none."""
    values = (part(parent.instance_id), *parent)
    if next(children_to_close(tx.db, parent), None) is None:
        tx.db.execute(DROP_CLOSING, values)
    elif tx.db.execute(SET_CLOSING, (tx.now_us, *values)).rowcount:
        tx.topics.add("workflow")
