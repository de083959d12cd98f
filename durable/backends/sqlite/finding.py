"""Lists of runs, a page at a time."""

from __future__ import annotations

import sqlite3

from durable.backends.records import Filter, InstanceRef, InstanceView
from durable.backends.sqlite.client_calls import read_run
from durable.backends.sqlite.rows_io import CURRENT_RUN, PAST_RUN, part

_TAG = (
    "CASE WHEN json_valid(tags) THEN EXISTS (SELECT 1 FROM json_each(tags) WHERE json_each.key = ? "
    "AND json_each.value = ?) ELSE 0 END"
)
_BOTH = ("instances", "past_runs")
_CHILDREN = (
    "SELECT created_at_us, run_id, instance_id FROM {table} WHERE parent_id = ?{of_run} ORDER BY 1, 2 LIMIT ?"
)


def find(db: sqlite3.Connection, wanted: Filter) -> list[InstanceView]:
    """The runs that match, in the order of their creation or the reverse, from the cursor on."""
    conditions, values = _conditions(wanted)
    where = f"WHERE {' AND '.join(conditions)} " if conditions else ""
    order = "DESC" if wanted.newest_first else "ASC"
    found: list[tuple[int, str, str]] = []
    for table in _BOTH:
        sql = f"SELECT created_at_us, run_id, instance_id FROM {table} {where}"
        sql += f"ORDER BY created_at_us {order}, run_id {order} LIMIT ?"
        found += db.execute(sql, (*values, wanted.limit)).fetchall()
    found.sort(reverse=wanted.newest_first)
    return _views(db, found[: wanted.limit])


def _conditions(wanted: Filter) -> tuple[list[str], list[object]]:
    conditions: list[str] = []
    values: list[object] = []

    def also(condition: str, *its_values: object) -> None:
        conditions.append(condition)
        values.extend(its_values)

    if wanted.workflow is not None:
        also("workflow = ?", wanted.workflow)
    if wanted.status:
        also(f"status IN ({', '.join('?' * len(wanted.status))})", *wanted.status)
    if wanted.states:
        also(f"state IN ({', '.join('?' * len(wanted.states))})", *wanted.states)
    for name, value in wanted.tags.items():
        also(_TAG, name, value)
    if wanted.created_after_us is not None:
        also("created_at_us > ?", wanted.created_after_us)
    if wanted.cursor is not None:
        also(f"(created_at_us, run_id) {'<' if wanted.newest_first else '>'} (?, ?)", *wanted.cursor)
    return conditions, values


def children(db: sqlite3.Connection, ref: InstanceRef, limit: int) -> list[InstanceView]:
    """The runs whose parent is this run (or any of the instance), oldest first."""
    found: list[tuple[int, str, str]] = []
    of_run = "" if ref.run_id is None else " AND parent_run_id = ?"
    values = (ref.instance_id,) if ref.run_id is None else (ref.instance_id, ref.run_id)
    for table in _BOTH:
        found += db.execute(_CHILDREN.format(table=table, of_run=of_run), (*values, limit)).fetchall()
    return _views(db, sorted(found)[:limit])


def _views(db: sqlite3.Connection, found: list[tuple[int, str, str]]) -> list[InstanceView]:
    """Row by row: one that cannot be read does not hide the others."""
    views = []
    for _, run_id, instance_id in found:
        row = read_run(db, CURRENT_RUN, (part(instance_id), instance_id))
        if row is None or row.run_id != run_id:
            row = read_run(db, PAST_RUN, (part(instance_id), instance_id, run_id))
        if row is not None:
            views.append(row.view())
    return views
