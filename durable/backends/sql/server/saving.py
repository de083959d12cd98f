"""Writes the net changes of a `Ledger`: each row once, and all of them in one statement where the server can do that.

Columns of a run change in groups, so that few forms of ``UPDATE`` are enough: a form names the groups in which anything
has changed in any run of the batch. Values that have not changed are written as they were, which touches no index.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from durable.backends.sql.history import history_row
from durable.backends.sql.ledger import ActivityKey, Ledger, RunKey
from durable.backends.sql.rows import (
    ACTIVITY_COLUMNS,
    RUN_COLUMNS,
    dump_mapping,
    inbox_values,
    run_values,
)
from durable.backends.sql.server.loading import (
    LOCK_ACTIVITIES_OF_RUNS,
    RUN_KEY,
    activity_key,
    of_runs,
    part,
)
from durable.backends.sql.server.session import Again, Session, Wanted, Write
from durable.backends.sql.server.tables import (
    ACTIVITIES,
    CLOSINGS,
    HISTORY,
    INBOX,
    INSTANCES,
    MESSAGE_KEYS,
    OUTBOX,
    PAST_RUNS,
    UPDATE_REPLIES,
    Table,
)

LAST_SEQUENCE = (
    "SELECT o.instance_id, o.run_id, max(o.sequence) FROM @outbox AS o JOIN @wanted ON o.part = wanted.part "
    "AND o.instance_id = wanted.instance_id AND o.run_id = wanted.run_id GROUP BY o.instance_id, o.run_id"
)

# By what changes together. The first group is in every form.
_RUN_GROUPS = (
    "state head_number head_token history_bytes sent seen ready_at_us wake_at_us claims lease_owner "
    "lease_until_us claim_token claimable_at_us updated_at_us",
    "status vars",
    "overdue_at_us closed_at_us result failure reason next_run_id children",
    "problem problem_build problem_stalls retry_at_us retryable_at_us",
    "run_id workflow version queue tags parent_id parent_run_id parent_number parent_close start_at_us "
    "deadline_us created_at_us first_run_id",
)
_ACTIVITY_GROUPS = (
    "deliveries token lease_until_us claimable_at_us expirable_at_us",
    "details",
    "due_at_us attempt failure expires_at_us parked expired held",
)


class _Form:
    """How changed rows of a table are written: which columns, if these groups have changed."""

    def __init__(self, table: Table, names: Sequence[str], groups: Sequence[str]) -> None:
        self._table = table
        self._names = names
        self._groups = [tuple(names.index(name) for name in group.split()) for group in groups]
        self._key = [names.index(name) for name in table.key]
        self._group_of = {n: number for number, group in enumerate(self._groups) for n in group}

    def write(self, changes: Sequence[tuple[Sequence[Any], Sequence[Any]]]) -> Write:
        """Changes are what was read and what is now."""
        touched = {0}
        for read, now in changes:
            touched.update(self._group_of[n] for n, value in enumerate(now) if value != read[n])
        numbers = [n for group in sorted(touched) for n in self._groups[group]]
        rows = [[now[n] for n in (*numbers, *self._key)] for _, now in changes]
        rows.sort(key=lambda row: row[len(numbers) :])
        return Write("update", self._table, tuple(self._names[n] for n in numbers), rows)


_RUNS = _Form(INSTANCES, RUN_COLUMNS, _RUN_GROUPS)
_TASKS = _Form(ACTIVITIES, ACTIVITY_COLUMNS, _ACTIVITY_GROUPS)


async def save(session: Session, ledger: Ledger, *, last: bool = False) -> None:
    """Write what the judging of a batch has changed. `Again` if an instance was made by somebody else meanwhile.

    ``last``: nothing follows in this transaction.
    """
    removed, added = _removals(ledger), [*_runs(ledger), *_activities(ledger), *_additions(ledger)]
    if ledger.outbox:
        added.append(_insert(OUTBOX, await _outbox_rows(session, ledger)))
    if _is_used_anew(ledger):
        await _write(session, removed)
        await _write(session, added)
    else:
        await _write(session, [*removed, *added], last=last and not ledger.held)
    if ledger.held:
        await _hold(session, ledger)


async def _write(session: Session, writes: Sequence[Write], *, last: bool = False) -> None:
    asked = [one for one in writes if one.rows]
    counts = await session.write(asked, last=last) if asked else []
    for one, count in zip(asked, counts, strict=True):
        if one.table is INSTANCES and one.what == "insert" and count < len(one.rows):
            raise Again("an instance that was to be made has been made by somebody else")


def _is_used_anew(ledger: Ledger) -> bool:
    """Whether a key may be removed and added in the same batch, so that the one must come before the other."""
    return bool(ledger.forgotten) or any(
        ledger.activities.get(key) is not None for key in ledger.dropped_activities
    )


def _insert(table: Table, rows: Sequence[Sequence[Any]], *, if_absent: bool = False) -> Write:
    return Write("insert", table, tuple(table.columns), rows, if_absent)


def _delete(table: Table, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> Write:
    return Write("delete", table, tuple(columns), rows)


def _removals(ledger: Ledger) -> list[Write]:
    all_of_it = {(one.part, one.instance_id) for one in ledger.cleared if one.run_id is None}
    of_run = {(one.part, one.instance_id, one.run_id) for one in ledger.cleared if one.run_id is not None}
    consumed = [(part(name), name, number) for name, gone in ledger.consumed.items() for number in gone]
    forgotten = sorted((part(name), name) for name in ledger.forgotten)
    dropped = sorted((part(key.instance_id), *key) for key in ledger.dropped_activities)
    return [
        _delete(INBOX, ("part", "instance_id"), sorted(all_of_it)),
        _delete(INBOX, ("part", "instance_id", "run_id"), sorted(of_run)),
        _delete(INBOX, INBOX.key, sorted(consumed)),
        _delete(MESSAGE_KEYS, ("part", "instance_id"), forgotten),
        _delete(UPDATE_REPLIES, ("part", "instance_id"), forgotten),
        _delete(ACTIVITIES, tuple(RUN_KEY), of_runs(ledger.dropped_runs).rows),
        _delete(ACTIVITIES, ACTIVITIES.key, dropped),
    ]


def _runs(ledger: Ledger) -> list[Write]:
    new: list[tuple[Any, ...]] = []
    changed: list[tuple[Sequence[Any], Sequence[Any]]] = []
    for _, read, now in ledger.changed_runs():
        if read is None:
            new.append(now)
        else:
            changed.append((read, now))
    # In one order everywhere, for who inserts waits for who inserts the same.
    new.sort(key=lambda row: row[:2])
    return [_insert(INSTANCES, new, if_absent=True), _RUNS.write(changed)]


def _activities(ledger: Ledger) -> list[Write]:
    new: list[tuple[Any, ...]] = []
    changed: list[tuple[Sequence[Any], Sequence[Any]]] = []
    for row, read, now in ledger.changed_activities():
        key = ActivityKey(row.instance_id, row.run_id, row.number)
        if read is None or key in ledger.dropped_activities:
            new.append(now)
        else:
            changed.append((read, now))
    return [_insert(ACTIVITIES, new), _TASKS.write(changed)]


def _additions(ledger: Ledger) -> list[Write]:
    messages = [message for inbox in ledger.inbox.values() for message in inbox.values()]
    keys = [(part(name), name, key) for name, key in ledger.new_keys]
    replies = [(part(name), name, key, body) for (name, key), body in ledger.replies.items()]
    closings = [
        (part(key.instance_id), key.run_id, key.instance_id, ledger.now_us) for key in ledger.closings
    ]
    return [
        _insert(PAST_RUNS, [run_values(row) for row in ledger.archived.values()]),
        _insert(HISTORY, [history_row(events) for events in ledger.history]),
        _insert(INBOX, [inbox_values(message) for message in messages]),
        _insert(MESSAGE_KEYS, keys, if_absent=True),
        _insert(UPDATE_REPLIES, replies, if_absent=True),
        _insert(CLOSINGS, closings, if_absent=True),
    ]


async def _hold(session: Session, ledger: Ledger) -> None:
    """All tasks of runs that were paused or resumed, also those that the batch did not read."""
    held = Ledger(ledger.now_us)
    for values in await session.fetch_wanted(LOCK_ACTIVITIES_OF_RUNS, of_runs(ledger.held)):
        key = activity_key(values)
        held.add_activity(key, values)
        row = held.activities[key]
        if row is not None:
            row.held = int(ledger.held[RunKey(key.instance_id, key.run_id)])
            row.settle()
    await _write(session, _activities(held))


async def _outbox_rows(session: Session, ledger: Ledger) -> list[tuple[Any, ...]]:
    """Numbered behind what is still to be published of the run (or of a forgotten one of the same id)."""
    runs = dict.fromkeys(RunKey(row.instance_id, row.run_id) for row, _ in ledger.outbox)
    wanted = Wanted(RUN_KEY, of_runs(runs).rows)
    last = {
        RunKey(name, run): number for name, run, number in await session.fetch_wanted(LAST_SEQUENCE, wanted)
    }
    rows = []
    for row, event in ledger.outbox:
        key = RunKey(row.instance_id, row.run_id)
        last[key] = last.get(key, 0) + 1
        names = (row.part, row.run_id, last[key], row.instance_id, row.workflow, event.id, event.topic)
        content = (event.payload, event.key, dump_mapping(event.headers), ledger.now_us, ledger.now_us)
        rows.append(names + content)
    return rows
