"""Lists of runs, a page at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from durable.backends.records import Answer, Filter, InstanceRef, InstanceView
from durable.backends.sql.rows import RUN_COLUMNS, RunRow
from durable.backends.sql.server.loading import columns
from durable.backends.sql.server.questions import runs_of
from durable.backends.sql.server.session import Query, Session

_RUN = columns(RUN_COLUMNS, "i")
_BOTH = ("@instances", "@past_runs")


async def get(session: Session, refs: Sequence[InstanceRef]) -> Answer[InstanceView | None]:
    """The runs that are named."""
    now_us, rows = await runs_of(session, refs)
    now_us = now_us or (await session.fetch("SELECT @now"))[0][0]
    return Answer(now_us=now_us, items=[None if row is None else row.view() for row in rows])


async def find(session: Session, wanted: Filter, tag_test: str) -> list[InstanceView]:
    """The runs that match, in the order of their creation or the reverse, from the cursor on."""
    conditions, values = _conditions(wanted, tag_test)
    where = f"WHERE {' AND '.join(conditions)} " if conditions else ""
    order = "DESC" if wanted.newest_first else "ASC"
    end = f"ORDER BY i.created_at_us {order}, i.run_id {order} LIMIT ?"
    queries = [
        Query(f"SELECT {_RUN} FROM {table} AS i {where}{end}", (*values, wanted.limit)) for table in _BOTH
    ]
    return _page(await session.fetch_union(queries), wanted.limit, newest_first=wanted.newest_first)


def _conditions(wanted: Filter, tag_test: str) -> tuple[list[str], list[Any]]:
    conditions: list[str] = []
    values: list[Any] = []

    def also(condition: str, *its_values: Any) -> None:
        conditions.append(condition)
        values.extend(its_values)

    if wanted.workflow is not None:
        also("i.workflow = ?", wanted.workflow)
    if wanted.status:
        also(f"i.status IN ({', '.join('?' * len(wanted.status))})", *wanted.status)
    if wanted.states:
        also(f"i.state IN ({', '.join('?' * len(wanted.states))})", *wanted.states)
    for name, value in wanted.tags.items():
        also(tag_test, name, value)
    if wanted.created_after_us is not None:
        also("i.created_at_us > ?", wanted.created_after_us)
    if wanted.cursor is not None:
        side, (at_us, run_id) = "<" if wanted.newest_first else ">", wanted.cursor
        also(
            f"(i.created_at_us {side} ? OR (i.created_at_us = ? AND i.run_id {side} ?))", at_us, at_us, run_id
        )
    return conditions, values


async def children(session: Session, ref: InstanceRef, limit: int) -> list[InstanceView]:
    """The runs whose parent is this run (or any of the instance), oldest first."""
    of_run, values = "", [ref.instance_id]
    if ref.run_id is not None:
        of_run, values = "AND i.parent_run_id = ? ", [ref.instance_id, ref.run_id]
    end = f"WHERE i.parent_id = ? {of_run}ORDER BY i.created_at_us, i.run_id LIMIT ?"
    queries = [Query(f"SELECT {_RUN} FROM {table} AS i {end}", (*values, limit)) for table in _BOTH]
    return _page(await session.fetch_union(queries), limit, newest_first=False)


def _page(rows: Sequence[tuple[Any, ...]], limit: int, *, newest_first: bool) -> list[InstanceView]:
    found = [RunRow(*values) for values in rows]
    found.sort(key=lambda row: (row.created_at_us, row.run_id), reverse=newest_first)
    return [row.view() for row in found[:limit]]
