"""Roles that one worker at a time may have, and counts."""

from __future__ import annotations

from durable.backends.records import Stats
from durable.backends.sql.server.session import Query, Session
from durable.backends.sql.server.tables import ROLES

_HOLDER = "SELECT r.worker_id, r.lease_until_us, @now FROM @roles AS r WHERE r.role = ?"
_LOCK = f"{_HOLDER} FOR UPDATE"

_COUNTS = (
    "SELECT 'instances', i.state, count(*) FROM @instances AS i GROUP BY i.state",
    "SELECT 'activities', a.queue, count(*) FROM @activities AS a GROUP BY a.queue",
    "SELECT 'ready', i.queue, count(*) FROM @instances AS i WHERE i.claimable_at_us <= @now GROUP BY i.queue",
    "SELECT 'outbox', '', count(*) FROM @outbox AS o",
)


async def is_held_by_another(session: Session, role: str, worker_id: str) -> bool:
    """A look, without a lock: most who ask are not the holder."""
    rows = await session.fetch(_HOLDER, role)
    return any(holder != worker_id and until_us > now_us for holder, until_us, now_us in rows)


async def hold(session: Session, role: str, worker_id: str, lease_us: int) -> bool:
    """Take or keep a role; ``False`` if another holds it."""
    rows = await session.fetch(_LOCK, role)
    if not rows:
        now_us = (await session.fetch("SELECT @now"))[0][0]
        return await session.insert(ROLES, [(role, worker_id, now_us + lease_us)], if_absent=True) == 1
    holder, until_us, now_us = rows[0]
    if holder != worker_id and until_us > now_us:
        return False
    await session.update(ROLES, ("worker_id", "lease_until_us"), [(worker_id, now_us + lease_us, role)])
    return True


async def count(session: Session) -> Stats:
    """Count everything."""
    found: dict[str, dict[str, int]] = {}
    for what, name, number in await session.fetch_union([Query(sql) for sql in _COUNTS]):
        found.setdefault(what, {})[name] = number
    return Stats(
        instances=found.get("instances", {}),
        activity_tasks=found.get("activities", {}),
        workflow_tasks=found.get("ready", {}),
        outbox=found["outbox"][""],
    )
