"""Looks over the whole file for what must never be: the structural invariants that can be seen without reading events.

The rules are those of the memory store's audit, and one more: every row can be read.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass

from durable.backends.records import Finding
from durable.backends.sqlite.rows_io import split_events

_OPEN = "('running', 'paused', 'stalled')"


@dataclass(frozen=True, slots=True)
class Rule:
    """A query that finds broken rows (instance id, run id, what is wrong), and statements that mend them all."""

    name: str
    find: str
    mend: tuple[str, ...] = ()


_WHERE_CLAIMS_LOOK = "CASE WHEN lease_owner IS NOT NULL THEN lease_until_us ELSE ready_at_us END"
_STRANDED = (
    "state = 'running' AND claimable_at_us IS NULL AND (claims > 0 OR wake_at_us IS NOT NULL OR EXISTS ("
    "SELECT 1 FROM inbox WHERE inbox.part = instances.part AND inbox.instance_id = instances.instance_id "
    "AND inbox.number > instances.seen))"
)
_MISPLACED = f"state = 'running' AND claimable_at_us IS NOT {_WHERE_CLAIMS_LOOK}"
_LEFT = (
    f"state NOT IN {_OPEN} AND (lease_owner IS NOT NULL OR wake_at_us IS NOT NULL OR ready_at_us IS NOT NULL "
    "OR claimable_at_us IS NOT NULL OR retryable_at_us IS NOT NULL OR overdue_at_us IS NOT NULL)"
)
_NO_RUN = (
    "NOT EXISTS (SELECT 1 FROM runs WHERE runs.part = {table}.part AND runs.instance_id = {table}.instance_id "
    "AND runs.run_id = {table}.run_id{more})"
)
_NO_INSTANCE = (
    "NOT EXISTS (SELECT 1 FROM instances WHERE instances.part = {table}.part "
    "AND instances.instance_id = {table}.instance_id{more})"
)
_TASK_OF_NOBODY = _NO_RUN.format(table="activities", more=f" AND runs.state IN {_OPEN}")
_MESSAGE_OF_NOBODY = _NO_INSTANCE.format(table="inbox", more=f" AND instances.state IN {_OPEN}")
_KEY_OF_NOBODY = _NO_INSTANCE.format(table="message_keys", more="")
_EVENTS_OF_NOBODY = _NO_RUN.format(table="history", more="")

RULES = (
    Rule(
        "I2 gap-free",
        "SELECT runs.instance_id, runs.run_id, 'the head has number ' || head_number || ', the history ' "
        "|| coalesce(total, 0) || ' events (' || coalesce(lowest, 0) || ' to ' || coalesce(highest, 0) || ')' "
        "FROM runs LEFT JOIN (SELECT part, instance_id, run_id, min(first_number) AS lowest, "
        "max(last_number) AS highest, sum(last_number - first_number + 1) AS total "
        "FROM history GROUP BY part, instance_id, run_id) AS h USING (part, instance_id, run_id) "
        "WHERE lowest IS NOT 1 OR highest <> head_number OR total <> head_number",
    ),
    Rule(
        "I3 one end",
        "SELECT instance_id, run_id, 'the run is ' || state || ', but closed at ' || coalesce(closed_at_us, 'never') "
        f"FROM runs WHERE (state IN {_OPEN}) = (closed_at_us IS NOT NULL)",
    ),
    Rule(
        "I4 an end is an end",
        f"SELECT instance_id, run_id, 'a lease or a time is left of a finished run' FROM instances WHERE {_LEFT}",
        (
            "UPDATE instances SET lease_owner = NULL, lease_until_us = NULL, wake_at_us = NULL, ready_at_us = NULL, "
            f"claimable_at_us = NULL, retryable_at_us = NULL, overdue_at_us = NULL WHERE {_LEFT}",
        ),
    ),
    Rule(
        "I4 an end is an end",
        "SELECT instance_id, run_id, 'activity ' || number || ' is still there' FROM activities "
        f"WHERE {_TASK_OF_NOBODY}",
        (f"DELETE FROM activities WHERE {_TASK_OF_NOBODY}",),
    ),
    Rule(
        "I5 one unfinished run",
        f"SELECT instance_id, run_id, 'an earlier run is ' || state FROM past_runs WHERE state IN {_OPEN}",
    ),
    Rule(
        "I7 nothing waits on nothing",
        f"SELECT instance_id, run_id, 'the run is not where claims look for it' FROM instances WHERE {_MISPLACED}",
        (f"UPDATE instances SET claimable_at_us = {_WHERE_CLAIMS_LOOK} WHERE {_MISPLACED}",),
    ),
    Rule(
        "I7 nothing waits on nothing",
        "SELECT instance_id, run_id, 'a message, a timer or a claim came to nothing: the run is neither ready nor "
        f"leased' FROM instances WHERE {_STRANDED}",
        (f"UPDATE instances SET ready_at_us = :now_us, claimable_at_us = :now_us WHERE {_STRANDED}",),
    ),
    Rule(
        "I8 nothing outlives its cause",
        f"SELECT instance_id, NULL, 'message ' || number || ' is for nobody' FROM inbox WHERE {_MESSAGE_OF_NOBODY}",
        (f"DELETE FROM inbox WHERE {_MESSAGE_OF_NOBODY}",),
    ),
    Rule(
        "I8 nothing outlives its cause",
        f"SELECT instance_id, NULL, 'a remembered key belongs to nobody' FROM message_keys WHERE {_KEY_OF_NOBODY}",
        (f"DELETE FROM message_keys WHERE {_KEY_OF_NOBODY}",),
    ),
    Rule(
        "I8 nothing outlives its cause",
        "SELECT instance_id, run_id, 'events from ' || first_number || ' on belong to no run' FROM history "
        f"WHERE {_EVENTS_OF_NOBODY}",
        (f"DELETE FROM history WHERE {_EVENTS_OF_NOBODY}",),
    ),
    Rule(
        "I29 every row can be read",
        "SELECT instance_id, run_id, 'tags or vars are no JSON' FROM runs "
        "WHERE NOT json_valid(tags) OR NOT json_valid(vars)",
    ),
)


def audit(db: sqlite3.Connection, now_us: int, *, repair: bool) -> Iterator[Finding]:
    """What is broken; with ``repair``, what can be mended is."""
    for rule in RULES:
        rows = db.execute(rule.find).fetchall()
        if rows and repair:
            for statement in rule.mend:
                db.execute(statement, {"now_us": now_us} if ":now_us" in statement else {})
        for instance_id, run_id, detail in rows:
            yield Finding(
                rule=rule.name,
                instance_id=instance_id,
                run_id=run_id,
                detail=detail,
                repairable=bool(rule.mend),
                repaired=repair and bool(rule.mend),
            )
    yield from _unreadable_history(db)


def _unreadable_history(db: sqlite3.Connection) -> Iterator[Finding]:
    sql = "SELECT instance_id, run_id, first_number, last_number, events, lengths FROM history"
    for instance_id, run_id, first, last, blob, lengths in db.execute(sql):
        try:
            whole = len(split_events(blob, lengths)) == last - first + 1
        except (ValueError, TypeError):
            whole = False
        if not whole:
            detail = f"the events {first} to {last} cannot be told apart"
            yield Finding(
                rule="I29 every row can be read", instance_id=instance_id, run_id=run_id, detail=detail
            )
