"""What the store holds of unfinished runs beside their histories. One statement, so that it is as of one moment."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from durable.backends.records import ANSWER_KINDS, OPEN_STATES, Head, Holdings, InstanceRef
from durable.backends.sql.server.loading import INSTANCE_KEY, part
from durable.backends.sql.server.session import Query, Row, Session, Wanted

_NAMES = (
    *("run_id", "state", "head_token", "lease_owner"),
    *("head_number", "seen", "wake_at_us", "ready_at_us", "lease_until_us"),
)
_RUN = (
    f"SELECT 'run' AS what, i.instance_id, {', '.join(f'i.{name}' for name in _NAMES)} FROM @instances AS i "
    "WHERE i.part = wanted.part AND i.instance_id = wanted.instance_id"
)
_KINDS = ", ".join(f"'{kind}'" for kind in ANSWER_KINDS)


def _also(what: str, text: str, table: str, more: str = "") -> str:
    blanks = "'' AS b1, '' AS b2, '' AS b3"
    return (
        f"SELECT '{what}' AS what, x.instance_id, {text}, {blanks}, x.number, 0 AS n1, 0 AS n2, 0 AS n3, 0 AS n4 "
        f"FROM {table} AS x WHERE x.part = wanted.part AND x.instance_id = wanted.instance_id{more}"
    )


QUERIES = (
    _RUN,
    _also("activity", "x.run_id", "@activities"),
    _also("answer", "x.key", "@inbox", f" AND x.kind IN ({_KINDS})"),
)


async def holdings(session: Session, refs: Sequence[InstanceRef]) -> list[Holdings | None]:
    """Of unfinished runs; ``None`` where there is none."""
    wanted = Wanted(INSTANCE_KEY, sorted({(part(ref.instance_id), ref.instance_id) for ref in refs}))
    if not wanted.rows:
        return []
    found: dict[str, dict[str, list[Row]]] = {}
    for what, instance_id, *values in await session.fetch_union([Query(sql, (), wanted) for sql in QUERIES]):
        found.setdefault(instance_id, {}).setdefault(what, []).append(tuple(values))
    return [_holdings(ref, found.get(ref.instance_id, {})) for ref in refs]


def _holdings(ref: InstanceRef, found: dict[str, list[Row]]) -> Holdings | None:
    if "run" not in found:
        return None
    run: dict[str, Any] = dict(zip(_NAMES, found["run"][0], strict=True))
    if run["state"] not in OPEN_STATES or ref.run_id not in (None, run["run_id"]):
        return None
    answers = sorted((row[4], row[0]) for row in found.get("answer", ()))
    return Holdings(
        instance_id=ref.instance_id,
        run_id=run["run_id"],
        state=run["state"],
        head=Head(number=run["head_number"], token=run["head_token"]),
        seen=run["seen"],
        wake_at_us=run["wake_at_us"],
        ready_at_us=run["ready_at_us"],
        lease_until_us=run["lease_until_us"] if run["lease_owner"] is not None else None,
        activities=tuple(sorted(row[4] for row in found.get("activity", ()) if row[0] == run["run_id"])),
        answers=tuple(key for _, key in answers),
    )
