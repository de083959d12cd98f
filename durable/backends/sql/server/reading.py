"""Reads histories: the events of runs, out of rows that each hold what one checkpoint wrote; and heads of inboxes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from durable.backends.records import MAX_MESSAGES_PER_TASK, Message
from durable.backends.sql.history import split_events
from durable.backends.sql.rows import INBOX_COLUMNS, InboxRow
from durable.backends.sql.server.loading import INSTANCE_KEY, RUN_KEY, columns, part
from durable.backends.sql.server.session import Session, Wanted
from durable.backends.sql.server.tables import Kind

_FROM: dict[str, Kind] = {**RUN_KEY, "beyond": "int"}
_OF_RUN = "{0}.part = wanted.part AND {0}.instance_id = wanted.instance_id AND {0}.run_id = wanted.run_id"
# A range of the primary key that begins with the row in which the first wanted event is, however long the history.
HISTORY = (
    "SELECT @now AS now_us, h.instance_id, h.run_id, wanted.beyond AS beyond, "
    "h.first_number, h.last_number, h.events, h.lengths "
    f"FROM @history AS h WHERE {_OF_RUN.format('h')} AND h.first_number >= coalesce("
    f"(SELECT max(g.first_number) FROM @history AS g WHERE {_OF_RUN.format('g')} "
    "AND g.first_number <= wanted.beyond + 1), 0) ORDER BY h.first_number"
)

INBOX_HEADS = (
    f"SELECT {columns(INBOX_COLUMNS, 'm')} FROM @inbox AS m WHERE m.part = wanted.part "
    f"AND m.instance_id = wanted.instance_id ORDER BY m.number LIMIT {MAX_MESSAGES_PER_TASK + 1}"
)


class Wish(NamedTuple):
    """The events of a run beyond a number."""

    instance_id: str
    run_id: str
    beyond: int


async def read_events(session: Session, wishes: Iterable[Wish]) -> tuple[int, dict[Wish, tuple[bytes, ...]]]:
    """The time (0 if there are none), and the events up to a row that is missing or broken: the head's number tells
    that some lack.
    """
    rows: dict[Wish, list[tuple[int, int, bytes, str | None]]] = {wish: [] for wish in wishes}
    if not rows:
        return 0, {}
    wanted = Wanted(_FROM, [(part(wish.instance_id), *wish) for wish in rows])
    found = await session.fetch_each(HISTORY, wanted)
    now_us = found[0][0] if found else 0
    for _, instance_id, run_id, beyond, first, last, blob, lengths in found:
        rows[Wish(instance_id, run_id, beyond)].append((first, last, blob, lengths))
    return now_us, {wish: _joined(some, wish.beyond) for wish, some in rows.items()}


async def read_inboxes(session: Session, instance_ids: Sequence[str]) -> dict[str, list[Message]]:
    """The first messages of these inboxes, one more than a task may bring."""
    found: dict[str, list[Message]] = {}
    wanted = Wanted(INSTANCE_KEY, [(part(name), name) for name in instance_ids])
    for values in await session.fetch_each(INBOX_HEADS, wanted) if wanted.rows else ():
        one = InboxRow(*values)
        found.setdefault(one.instance_id, []).append(
            Message(number=one.number, key=one.key, kind=one.kind, body=one.body, sent_at_us=one.sent_at_us)
        )
    return found


def _joined(rows: Iterable[tuple[int, int, bytes, str | None]], beyond: int) -> tuple[bytes, ...]:
    events: list[bytes] = []
    expected = None
    for first, last, blob, lengths in rows:
        some = whole(blob, lengths, last - first + 1)
        if some is None or (expected is not None and first != expected):
            break
        expected = last + 1
        events += some[max(0, beyond + 1 - first) :]
    return tuple(events)


def whole(blob: bytes, lengths: str | None, count: int) -> list[bytes] | None:
    """The events of a row of the history, if it has so many."""
    try:
        events = split_events(blob, lengths)
    except (ValueError, TypeError):
        return None
    return events if len(events) == count else None
