"""Looks over the whole file for what must never be: the structural invariants that can be seen without reading events.

The rules are those of the memory store's audit and more (`audit_rules`), and one that SQL cannot say: every event of
the history can be told from the next.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

from durable.backends.records import Finding
from durable.backends.sql.history import split_events
from durable.backends.sqlite.audit_rules import RULES, Rule


def audit(db: sqlite3.Connection, now_us: int, *, repair: bool) -> Iterator[Finding]:
    """What is broken; with ``repair``, what can be mended is, and the finding's detail says how."""
    for rule in RULES:
        rows = db.execute(rule.find, _values(rule.find, now_us)).fetchall()
        mending = repair and bool(rows)
        if mending:
            for statement in rule.mend:
                db.execute(statement, _values(statement, now_us))
        for instance_id, run_id, detail in rows:
            yield _finding(rule, instance_id, run_id, detail, mending=mending)
    yield from _unreadable_history(db)


def _values(sql: str, now_us: int) -> dict[str, int]:
    return {"now_us": now_us} if ":now_us" in sql else {}


def _finding(rule: Rule, instance_id: str, run_id: str | None, detail: str, *, mending: bool) -> Finding:
    mends = bool(rule.mend) and rule.heals
    return Finding(
        rule=rule.name,
        instance_id=instance_id,
        run_id=run_id,
        detail=f"{detail}; {rule.done}" if mending and rule.done else detail,
        repairable=mends,
        repaired=mending and mends,
    )


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
