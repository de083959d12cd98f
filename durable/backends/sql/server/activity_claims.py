"""Claims of activity tasks: ordinary attempts by queue and name, and those that have expired.

First a look, as for runs (`run_claims`). Rows of activities are locked by themselves, without their instances: whoever
holds an instance may wait for them, and a claim waits for nobody.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from durable.backends.records import ActivityTask, Claimant
from durable.backends.sql.attempts import take_activity
from durable.backends.sql.handed import LastClaims
from durable.backends.sql.ledger import ActivityKey, Ledger
from durable.backends.sql.rows import ActivityRow
from durable.backends.sql.server.loading import READ_ACTIVITIES, lock_activities, of_activities
from durable.backends.sql.server.run_claims import activity_kinds_of, window_of
from durable.backends.sql.server.saving import save
from durable.backends.sql.server.session import Query, Session

_FOUND = "a.part, a.instance_id, a.run_id, a.number FROM @activities AS a"
_OF_KIND = f"a.claimable_at_us, {_FOUND} WHERE a.queue = wanted.queue AND a.name = wanted.name"
_ORDER = "ORDER BY a.claimable_at_us, a.instance_id, a.run_id, a.number"
NOW = "SELECT 'now', @now, 0, '', '', 0"
CLAIMABLE = f"SELECT 'ready', {_OF_KIND} AND a.claimable_at_us <= @now {_ORDER} LIMIT ?"
NEXT_CLAIMABLE = f"SELECT 'next', {_OF_KIND} AND a.claimable_at_us > @now {_ORDER} LIMIT 1"
EXPIRABLE = (
    f"SELECT 'expired', a.expirable_at_us, {_FOUND} WHERE a.expirable_at_us <= @now "
    "ORDER BY a.expirable_at_us LIMIT ?"
)
NEXT_EXPIRABLE = (
    f"SELECT 'next', a.expirable_at_us, {_FOUND} WHERE a.expirable_at_us > @now "
    "ORDER BY a.expirable_at_us LIMIT 1"
)


@dataclass(slots=True)
class Look:
    """What is due, each with its time, expired first: for them time has run out already; and what comes next."""

    now_us: int = 0
    due: dict[ActivityKey, int] = field(default_factory=dict)
    following: list[tuple[int, ActivityKey | None]] = field(default_factory=list)

    @property
    def next_us(self) -> int | None:
        """When the next of all that is left is (or was) due."""
        return min([*self.due.values(), *(at_us for at_us, _ in self.following)], default=None)

    def fresh(self) -> Look:
        """A copy to be used up: the transaction may be repeated."""
        return Look(self.now_us, dict(self.due), list(self.following))


async def look_for_activities(session: Session, claimant: Claimant, limit: int) -> Look:
    """What is claimable or expired."""
    window = window_of(limit)
    kinds = activity_kinds_of(claimant)
    queries = [
        Query(NOW),
        Query(CLAIMABLE, (window,), kinds),
        Query(NEXT_CLAIMABLE, (), kinds),
        Query(EXPIRABLE, (window,)),
        Query(NEXT_EXPIRABLE),
    ]
    look, ready = Look(), dict[ActivityKey, int]()
    for what, at_us, _, *found in sorted(await session.fetch_union(queries), key=lambda row: row[1:]):
        key = ActivityKey(*found)
        match what:
            case "now":
                look.now_us = at_us
            case "ready":
                ready.setdefault(key, at_us)
            case "expired":
                look.due.setdefault(key, at_us)
            case _:
                look.following.append((at_us, key))
    for key, at_us in ready.items():
        look.due.setdefault(key, at_us)
    return look


class ActivityClaims:
    """Hands out attempts."""

    def __init__(self) -> None:
        self._last: LastClaims[ActivityKey] = LastClaims()

    def again(self, claimant: Claimant) -> bool:
        """Whether this is the repetition of a claim that was handed something."""
        return bool(self._last.again(claimant)[1])

    async def claim(
        self, session: Session, claimant: Claimant, limit: int, found: Look
    ) -> tuple[list[ActivityTask], Look]:
        """Up to ``limit`` of what the look has found, in a transaction; and what is left after that."""
        _, before = self._last.again(claimant)
        ledger, look = Ledger(found.now_us), found.fresh()
        items = await _handed_again(session, claimant, before)
        items += await _take(session, ledger, claimant, look, limit - len(items))
        await save(session, ledger)
        self._last.remember(claimant, 0, [key for key, _ in items])
        keys = {key for key, _ in items}
        if any(key in keys for _, key in look.following):
            look = await look_for_activities(session, claimant, 1)
        look.now_us = ledger.now_us
        return [task for _, task in items], look


async def _take(
    session: Session, ledger: Ledger, claimant: Claimant, look: Look, limit: int
) -> list[tuple[ActivityKey, ActivityTask]]:
    items: list[tuple[ActivityKey, ActivityTask]] = []
    keys = list(look.due)
    while keys and len(items) < limit:
        some, keys = keys[: limit - len(items)], keys[limit - len(items) :]
        await lock_activities(session, ledger, some)
        for key in some:
            del look.due[key]
            row = ledger.activities.get(key)
            if row is not None and _is_ready(ledger.now_us, row, claimant):
                items.append((key, take_activity(ledger.now_us, row, claimant)))
                times = (row.claimable_at_us, row.expirable_at_us)
                look.following += [(at_us, None) for at_us in times if at_us is not None]
    return items


def _is_ready(now_us: int, row: ActivityRow, claimant: Claimant) -> bool:
    if row.expirable_at_us is not None and row.expirable_at_us <= now_us:
        return True
    known = row.queue in claimant.queues and row.name in claimant.activities
    return known and row.claimable_at_us is not None and row.claimable_at_us <= now_us


async def _handed_again(
    session: Session, claimant: Claimant, before: list[ActivityKey]
) -> list[tuple[ActivityKey, ActivityTask]]:
    if not before:
        return []
    rows = [ActivityRow(*row) for row in await session.fetch_wanted(READ_ACTIVITIES, of_activities(before))]
    there = {ActivityKey(row.instance_id, row.run_id, row.number): row for row in rows}
    items = []
    for key in before:
        row = there.get(key)
        if row is not None and row.token == claimant.token and row.lease_until_us is not None:
            items.append((key, row.task(claimant.token, expired=bool(row.expired))))
    return items
