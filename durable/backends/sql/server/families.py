"""The audit of families: ended runs whose children nobody would close, and runs that do not know of their children.

A child's row does not have the part of its parent, so this is no join: the families that have children to be closed are
read, and then their parents by key. Each statement sees another moment: between two of them the children may have been
closed, and what said so was forgotten. So before anything is told, the families are read once more.
"""

from __future__ import annotations

from collections.abc import Sequence

from durable.backends.records import OPEN_STATES, Finding
from durable.backends.sql.ledger import RunKey
from durable.backends.sql.server.loading import RUN_KEY, of_runs, part, same
from durable.backends.sql.server.session import Session
from durable.backends.sql.server.tables import CLOSINGS, INSTANCES

_I7 = "I7 nothing waits on nothing"
AT_ONCE = 1_000

FAMILIES = (
    "SELECT i.parent_id, i.parent_run_id, count(*) FROM @instances AS i WHERE i.parent_id IS NOT NULL "
    "AND i.closed_at_us IS NULL AND i.parent_close <> 'abandon' AND NOT (i.parent_close = 'cancel' "
    "AND EXISTS (SELECT 1 FROM @message_keys AS k WHERE k.part = i.part AND k.instance_id = i.instance_id "
    "AND k.key = concat('close/', i.parent_run_id))) GROUP BY i.parent_id, i.parent_run_id"
)
PARENTS = tuple(
    f"SELECT i.instance_id, i.run_id, i.state, i.children FROM {table} AS i JOIN @wanted ON {same('i', RUN_KEY)}"
    for table in ("@instances", "@past_runs")
)
CLOSED = f"SELECT c.instance_id, c.run_id FROM @closings AS c JOIN @wanted ON {same('c', RUN_KEY)}"


async def audit_families(session: Session, busy: set[str] | None) -> list[Finding]:
    """``busy``: mend, but not what somebody else holds; ``None``: only look."""
    families = await _families(session)
    found: list[Finding] = []
    keys = sorted(families)
    for at in range(0, len(keys), AT_ONCE):
        some = keys[at : at + AT_ONCE]
        found += await _judged(session, some, families, busy)
    return found


async def _families(session: Session) -> dict[RunKey, int]:
    """How many children are to be closed when these runs end."""
    return {RunKey(name, run): count for name, run, count in await session.fetch(FAMILIES)}


async def _judged(
    session: Session, keys: Sequence[RunKey], families: dict[RunKey, int], busy: set[str] | None
) -> list[Finding]:
    wanted = of_runs(keys)
    parents = [row for sql in PARENTS for row in await session.fetch_wanted(sql, wanted)]
    closed = {RunKey(*row) for row in await session.fetch_wanted(CLOSED, wanted)}
    unclosed = [
        RunKey(name, run)
        for name, run, state, _ in parents
        if state not in OPEN_STATES and RunKey(name, run) not in closed
    ]
    childless = [
        RunKey(name, run) for name, run, state, count in parents if state in OPEN_STATES and not count
    ]
    if not unclosed and not childless:
        return []
    families = await _families(session)
    unclosed = [key for key in unclosed if key in families]
    childless = [key for key in childless if key in families]
    if busy is not None:
        now_us = (await session.fetch("SELECT @now"))[0][0]
        rows = [(part(key.instance_id), key.run_id, key.instance_id, now_us) for key in unclosed]
        await session.insert(CLOSINGS, [row for row in rows if row[2] not in busy], if_absent=True)
        counts = [(families[key], part(key.instance_id), key.instance_id) for key in childless]
        await session.update(INSTANCES, ("children",), [row for row in counts if row[2] not in busy])
    return [
        *(_finding(key, "the run has ended, and nobody would close its children", busy) for key in unclosed),
        *(
            _finding(key, "the run does not know of its children, and would leave them", busy)
            for key in childless
        ),
    ]


def _finding(key: RunKey, detail: str, busy: set[str] | None) -> Finding:
    mended = busy is not None and key.instance_id not in busy
    return Finding(
        rule=_I7,
        instance_id=key.instance_id,
        run_id=key.run_id,
        detail=f"{detail}; they will be closed" if mended else detail,
        repairable=True,
        repaired=mended,
    )
