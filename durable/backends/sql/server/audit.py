"""Looks over the whole store for what must never be: the structural invariants that can be seen without reading events.

To mend, the instances that were found are locked (and tasks, where it is about tasks), and the question is asked once
more: what somebody was just doing is done then. What somebody holds is left for the next audit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from durable.backends.records import Finding
from durable.backends.sql.ledger import ActivityKey, Ledger
from durable.backends.sql.server.audit_rules import CONSTANTS, NOW, RULES, Delete, Insert, Mend, Rule, Update
from durable.backends.sql.server.families import audit_families
from durable.backends.sql.server.loading import load_runs, lock_activities
from durable.backends.sql.server.session import Session
from durable.backends.sql.server.tables import ACTIVITIES


async def audit(session: Session, *, repair: bool) -> list[Finding]:
    """What is broken; with ``repair``, what can be mended is, and the finding's detail says how."""
    found: list[Finding] = []
    for rule in RULES:
        found += await (_mended(session, rule) if repair else _found(session, rule))
    return [*found, *await _families(session, repair=repair)]


async def _found(session: Session, rule: Rule) -> list[Finding]:
    return [_finding(rule, row, mended=False) for row in await _ask(session, rule)]


async def _ask(session: Session, rule: Rule) -> list[dict[str, Any]]:
    names = ("part", "instance_id", "run_id", *rule.columns)
    return [dict(zip(names, row, strict=True)) for row in await session.fetch(rule.sql)]


async def _mended(session: Session, rule: Rule) -> list[Finding]:
    before = await _ask(session, rule)
    if not before or rule.mend is None:
        return [_finding(rule, row, mended=False) for row in before]
    ledger = Ledger(0)
    busy = await load_runs(session, ledger, {row["instance_id"] for row in before})
    looked = {row["instance_id"] for row in before} - busy
    tasks = await _lock_tasks(session, ledger, rule.mend, before)
    rows = await _ask(session, rule)
    mine = [
        row
        for row in rows
        if row["instance_id"] in looked
        and row.get(rule.only_if or "", 1) == 1
        and (tasks is None or _task(row) in tasks)
    ]
    await _mend(session, rule.mend, [{**CONSTANTS, **row, NOW: ledger.now_us} for row in mine])
    return [_finding(rule, row, mended=row in mine) for row in rows]


async def _lock_tasks(
    session: Session, ledger: Ledger, mend: Mend, rows: Sequence[dict[str, Any]]
) -> set[ActivityKey] | None:
    """Those that were had, where rows of activities are mended: claims of them hold no instance. Else ``None``."""
    if mend.table is not ACTIVITIES or isinstance(mend, Insert):
        return None
    keys = [_task(row) for row in rows]
    return set(keys) - await lock_activities(session, ledger, keys)


def _task(row: dict[str, Any]) -> ActivityKey:
    return ActivityKey(row["instance_id"], row["run_id"], row["number"])


async def _mend(session: Session, mend: Mend, rows: Sequence[dict[str, Any]]) -> None:
    table = mend.table
    match mend:
        case Update(values=values):
            changes = [
                [*(row[name] for name in values.values()), *(row[key] for key in table.key)] for row in rows
            ]
            await session.update(table, tuple(values), changes)
        case Delete():
            await session.delete(table, table.key, [[row[key] for key in table.key] for row in rows])
        case Insert(values=values):
            new = [[row[name] for name in values.values()] for row in rows]
            await session.insert(table, new, columns=tuple(values), if_absent=True)


async def _families(session: Session, *, repair: bool) -> list[Finding]:
    found = await audit_families(session, None)
    if not repair or not found:
        return found
    busy = await load_runs(session, Ledger(0), {one.instance_id for one in found})
    return await audit_families(session, busy)


def _finding(rule: Rule, row: dict[str, Any], *, mended: bool) -> Finding:
    mends = rule.mend is not None and rule.heals
    detail = rule.detail.format(**row)
    return Finding(
        rule=rule.name,
        instance_id=row["instance_id"],
        run_id=row["run_id"] or None,
        detail=f"{detail}; {rule.done}" if mended and rule.done else detail,
        repairable=mends,
        repaired=mended and mends,
    )
