"""Events to be published, in order per run: a run's events belong to one claim until all that it was handed are out.

Claims of events go through a turnstile, one at a time in the whole store: two at once would see what the other takes as
not there, and hand out what comes behind it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from durable.backends.records import Claimant, OutboxEvent
from durable.backends.sql.handed import LastClaims
from durable.backends.sql.rows import load_mapping
from durable.backends.sql.server.loading import RUN_KEY, columns, same
from durable.backends.sql.server.session import Query, Session, Wanted
from durable.backends.sql.server.tables import OUTBOX, Kind

_COLUMNS = (
    "part",
    "instance_id",
    "run_id",
    "sequence",
    "id",
    "topic",
    "payload",
    "key",
    "headers",
    "lease_until_us",
)
_EVENT = columns(_COLUMNS, "o")
_POSITION: dict[str, Kind] = {**RUN_KEY, "sequence": "int"}
NOW = "SELECT 'now', @now"
# Of the run nothing is held.
_FREE = (
    "FROM @outbox AS o WHERE o.lease_until_us <= @now AND NOT EXISTS (SELECT 1 FROM @outbox AS h "
    "WHERE h.part = o.part AND h.instance_id = o.instance_id AND h.run_id = o.run_id AND h.lease_until_us > @now) "
    "ORDER BY o.created_at_us, o.run_id, o.sequence LIMIT"
)
FREE = f"SELECT {_EVENT} {_FREE} ?"
FIRST_FREE = f"SELECT 'free', o.lease_until_us {_FREE} 1"
NEXT_HELD = (
    "SELECT 'held', o.lease_until_us FROM @outbox AS o WHERE o.lease_until_us > @now "
    "ORDER BY o.lease_until_us LIMIT 1"
)
TURNSTILE = "SELECT t.value, @now FROM @meta AS t WHERE t.name = 'outbox' FOR UPDATE"
READ = f"SELECT {_EVENT} FROM @outbox AS o JOIN @wanted ON {same('o', _POSITION)}"
NAMED = (
    "SELECT o.part, o.instance_id, o.run_id, o.sequence FROM @outbox AS o JOIN @wanted ON o.id = wanted.id "
    "ORDER BY o.part, o.instance_id, o.run_id, o.sequence"
)


class Position(NamedTuple):
    """The key of an event's row."""

    part: int
    instance_id: str
    run_id: str
    sequence: int


class Held(NamedTuple):
    """An event's row."""

    part: int
    instance_id: str
    run_id: str
    sequence: int
    id: str
    topic: str
    payload: str
    key: str | None
    headers: str
    lease_until_us: int

    @property
    def position(self) -> Position:
        """Its key."""
        return Position(*self[:4])

    def event(self) -> OutboxEvent:
        """As it is handed out."""
        return OutboxEvent(
            id=self.id,
            topic=self.topic,
            payload=self.payload,
            key=self.key,
            headers=load_mapping(self.headers),
        )


class Look(NamedTuple):
    """The time, whether something is free, and when the next thing is."""

    now_us: int
    free: bool
    next_us: int | None


async def look_for_events(session: Session) -> Look:
    """Whether there is anything to be published now."""
    found: dict[str, int] = dict(await session.fetch_union([Query(NOW), Query(FIRST_FREE), Query(NEXT_HELD)]))
    free, held = found.get("free"), found.get("held")
    return Look(found["now"], free is not None, free if free is not None else held)


class OutboxClaims:
    """Hands out events."""

    def __init__(self) -> None:
        self._last: LastClaims[Position] = LastClaims()

    def again(self, claimant: Claimant) -> bool:
        """Whether this is the repetition of a claim that was handed something."""
        return bool(self._last.again(claimant)[1])

    async def claim(self, session: Session, claimant: Claimant, limit: int) -> tuple[list[OutboxEvent], Look]:
        """Up to ``limit`` events, and when the next one is free."""
        until_us, before = self._last.again(claimant)
        now_us = (await session.fetch(TURNSTILE))[0][1]
        rows = await _still_held(session, before, until_us)
        until_us = until_us if rows else now_us + claimant.lease_us
        if len(rows) < limit:
            new = [Held(*row) for row in await session.fetch(FREE, limit - len(rows))]
            end_us = now_us + claimant.lease_us
            await session.update(
                OUTBOX, ("lease_until_us",), [(end_us, *row.position) for row in sorted(new)]
            )
            rows += new
        self._last.remember(claimant, until_us, [row.position for row in rows])
        return [row.event() for row in rows], await look_for_events(session)


async def _still_held(session: Session, before: list[Position], until_us: int) -> list[Held]:
    if not before:
        return []
    rows = (Held(*row) for row in await session.fetch_wanted(READ, Wanted(_POSITION, before)))
    held = {row.position: row for row in rows if row.lease_until_us == until_us}
    return [held[position] for position in before if position in held]


async def finish(session: Session, ids: Sequence[str]) -> None:
    """Remove events that were published."""
    if not ids:
        return
    rows = await session.fetch_wanted(NAMED, Wanted({"id": "id"}, [(one,) for one in sorted(set(ids))]))
    await session.delete(OUTBOX, OUTBOX.key, rows)
