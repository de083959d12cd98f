"""Locks and reads the rows of a batch into a `Ledger`.

Instance rows are locked by ``SKIP LOCKED``. A row that is there and was not had is *busy*: the items that need it are
answered so, and the others go on without them. Everything else that a batch needs belongs to an instance that it has
locked, and is read by later statements.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Generic, TypeVar

from durable.backends.records import part_of
from durable.backends.sql import needs as needs_of_batch
from durable.backends.sql.ledger import ActivityKey, Ledger, RunKey
from durable.backends.sql.needs import InboxRange, Needs
from durable.backends.sql.rows import ACTIVITY_COLUMNS, INBOX_COLUMNS, RUN_COLUMNS, InboxRow, RunRow
from durable.backends.sql.server.session import Row, Session, Wanted
from durable.backends.sql.server.tables import Kind

Q = TypeVar("Q")

INSTANCE_KEY: dict[str, Kind] = {"part": "part", "instance_id": "id"}
RUN_KEY: dict[str, Kind] = {**INSTANCE_KEY, "run_id": "id"}
ACTIVITY_KEY: dict[str, Kind] = {**RUN_KEY, "number": "int"}


def columns(names: Iterable[str], alias: str) -> str:
    """A list of columns for a ``SELECT``."""
    return ", ".join(f"{alias}.{name}" for name in names)


def same(alias: str, names: Iterable[str]) -> str:
    """The condition that a row is a wanted one."""
    return " AND ".join(f"{alias}.{name} = wanted.{name}" for name in names)


_RUN = columns(RUN_COLUMNS, "i")
_OF_INSTANCE = same("i", INSTANCE_KEY)
LOCK_RUNS = (
    f"SELECT @now, {_RUN} FROM @instances AS i JOIN @wanted ON {_OF_INSTANCE} "
    "ORDER BY i.part, i.instance_id FOR UPDATE SKIP LOCKED"
)
READ_RUNS = f"SELECT @now, {_RUN} FROM @instances AS i JOIN @wanted ON {_OF_INSTANCE}"
WHICH_ARE_THERE = (
    f"SELECT @now, wanted.instance_id, i.run_id FROM @wanted LEFT JOIN @instances AS i ON {_OF_INSTANCE}"
)
READ_PAST_RUNS = f"SELECT {_RUN} FROM @past_runs AS i JOIN @wanted ON {same('i', RUN_KEY)}"
_ACTIVITY = columns(ACTIVITY_COLUMNS, "a")
LOCK_ACTIVITIES = (
    f"SELECT {_ACTIVITY} FROM @activities AS a JOIN @wanted ON {same('a', ACTIVITY_KEY)} "
    "ORDER BY a.part, a.instance_id, a.run_id, a.number FOR UPDATE SKIP LOCKED"
)
READ_ACTIVITIES = f"SELECT {_ACTIVITY} FROM @activities AS a JOIN @wanted ON {same('a', ACTIVITY_KEY)}"
# Waited for: a run is paused with all that it has, and who holds one of these, a claim or a lease's renewal, waits for
# nobody.
LOCK_ACTIVITIES_OF_RUNS = (
    f"SELECT {_ACTIVITY} FROM @activities AS a JOIN @wanted ON {same('a', RUN_KEY)} "
    "ORDER BY a.part, a.instance_id, a.run_id, a.number FOR UPDATE"
)
# Each is looked up by itself. A join may begin with all keys of an instance, where the planner takes them for few, and
# compare thousands with thousands.
KNOWN_KEYS = (
    "SELECT wanted.instance_id, wanted.name FROM @wanted WHERE (SELECT 1 FROM @message_keys AS k "
    f"WHERE {same('k', INSTANCE_KEY)} AND k.key = wanted.name LIMIT 1 @newest) IS NOT NULL"
)
ENDED_BY = (
    "SELECT i.instance_id, i.head_token FROM @past_runs AS i "
    f"JOIN @wanted ON {_OF_INSTANCE} AND i.head_token = wanted.token"
)
# The number is compared by a constant of the wanted row, so that each is one range of the key.
UNREAD = (
    f"SELECT {columns(INBOX_COLUMNS, 'm')} FROM @inbox AS m WHERE m.part = wanted.part "
    "AND m.instance_id = wanted.instance_id AND m.number > wanted.beyond ORDER BY m.number LIMIT ?"
)

_NUMBER = ACTIVITY_COLUMNS.index("number")
_OF_ACTIVITY = [ACTIVITY_COLUMNS.index(name) for name in ActivityKey._fields]

part = lru_cache(maxsize=65_536)(part_of)
"""The part of an instance, remembered."""


def of_instances(instance_ids: Iterable[str]) -> Wanted:
    """Instances, as rows to be joined with, in the order of their keys."""
    return Wanted(INSTANCE_KEY, sorted((part(name), name) for name in instance_ids))


def of_runs(keys: Iterable[RunKey]) -> Wanted:
    """Runs, as rows to be joined with."""
    return Wanted(RUN_KEY, sorted((part(key.instance_id), *key) for key in keys))


def of_activities(keys: Iterable[ActivityKey]) -> Wanted:
    """Activities, as rows to be joined with."""
    return Wanted(ACTIVITY_KEY, sorted((part(key.instance_id), *key) for key in keys))


def activity_key(row: Row) -> ActivityKey:
    """The key of a row of ``activities``."""
    return ActivityKey(*(row[n] for n in _OF_ACTIVITY))


@dataclass(slots=True)
class Loaded(Generic[Q]):
    """What was had for a batch. ``live``: the indexes of the items that can be judged; the others are busy."""

    ledger: Ledger
    live: list[int] = field(default_factory=list)


async def load(
    session: Session,
    items: Sequence[Q],
    needs_of: Callable[[Sequence[Q]], Needs],
    *,
    locks: bool = True,
) -> Loaded[Q]:
    """The rows that items need. ``locks=False``: only to look at, as they are now, and none is busy."""
    needs = needs_of(items)
    ledger = Ledger(0)
    busy = await load_runs(session, ledger, needs.instances, locks=locks)
    lost = await _load_activities(session, ledger, needs, locks=locks)
    live = list(range(len(items)))
    if busy or lost:
        live = _without(items, live, needs_of, busy, lost)
    if len(live) < len(items):
        needs = needs_of([items[n] for n in live])
    parents = await _load_the_rest(session, ledger, needs, locks=locks)
    if parents:
        bereft = {name for name in needs.ending if _parent_of(ledger, name) in parents}
        live = _without(items, live, needs_of, bereft, set())
    return Loaded(ledger, live)


def _parent_of(ledger: Ledger, instance_id: str) -> str | None:
    row = ledger.runs.get(instance_id)
    return None if row is None else row.parent_id


def _without(
    items: Sequence[Q],
    live: Sequence[int],
    needs_of: Callable[[Sequence[Q]], Needs],
    busy: set[str],
    lost: set[ActivityKey],
) -> list[int]:
    """The items that need nothing busy. One that comes after a busy item of the same instance waits with it, or the
    order in which things happen to that instance would change.
    """
    waiting = set(busy)
    left = []
    for n in live:
        needs = needs_of([items[n]])
        if needs.instances.keys() & waiting or needs.activities.keys() & lost:
            waiting |= needs.instances.keys()
        else:
            left.append(n)
    return left


async def load_runs(
    session: Session,
    ledger: Ledger,
    instance_ids: Collection[str],
    *,
    locks: bool = True,
    only_had: bool = False,
) -> set[str]:
    """Lock the current runs of instances, and set the ledger's time; gives those that are busy.

    ``only_had``: it is no matter why the others were not had, and the ledger says nothing of them.
    """
    if not instance_ids:
        await _set_time(session, ledger)
        return set()
    wanted = of_instances(instance_ids)
    rows = await session.fetch_wanted(LOCK_RUNS if locks else READ_RUNS, wanted)
    missing = dict.fromkeys(instance_ids)
    for row in rows:
        ledger.now_us = ledger.now_us or row[0]
        ledger.add_run(row[2], row[1:])
        del missing[row[2]]
    if not missing or only_had:
        await _set_time(session, ledger)
        return set()
    busy = await _busy(session, ledger, missing) if locks else set()
    await _set_time(session, ledger)
    for name in missing:
        if name not in busy:
            ledger.add_run(name, None)
    return busy


async def _set_time(session: Session, ledger: Ledger) -> None:
    if not ledger.now_us:
        ledger.now_us = (await session.fetch("SELECT @now"))[0][0]


async def _busy(session: Session, ledger: Ledger, missing: Iterable[str]) -> set[str]:
    """Of the instances that were not had: those that are there all the same, or are just being made."""
    busy: set[str] = set()
    absent: list[tuple[int, str]] = []
    for now_us, name, run_id in await session.fetch_wanted(WHICH_ARE_THERE, of_instances(missing)):
        ledger.now_us = ledger.now_us or now_us
        if run_id is None:
            absent.append((part(name), name))
        else:
            busy.add(name)
    if absent:
        busy |= await session.reserve(sorted(absent))
    return busy


async def _load_activities(
    session: Session, ledger: Ledger, needs: Needs, *, locks: bool
) -> set[ActivityKey]:
    """Had, or busy: none is waited for. Whoever has one is quick, but it may have been stopped in its middle, and the
    batch is everybody's. Also those of busy instances: the lease of an attempt is judged by its own row alone.
    """
    keys = list(needs.activities)
    if not locks:
        await _add_activities(session, ledger, keys, READ_ACTIVITIES)
        return set()
    return await lock_activities(session, ledger, keys)


async def lock_activities(session: Session, ledger: Ledger, keys: Sequence[ActivityKey]) -> set[ActivityKey]:
    """Lock activities, with their instances or without; gives those that somebody else has."""
    missing = await _add_activities(session, ledger, keys, LOCK_ACTIVITIES)
    if not missing:
        return set()
    rows = await session.fetch_wanted(READ_ACTIVITIES, of_activities(missing))
    lost = {activity_key(row) for row in rows}
    for key in lost:
        del ledger.activities[key]
    return lost


async def _add_activities(
    session: Session, ledger: Ledger, keys: Sequence[ActivityKey], sql: str
) -> list[ActivityKey]:
    """Gives the keys of which there was no row to be had."""
    if not keys:
        return []
    for row in await session.fetch_wanted(sql, of_activities(keys)):
        ledger.add_activity(activity_key(row), row)
    missing = [key for key in keys if key not in ledger.activities]
    for key in missing:
        ledger.add_activity(key, None)
    return missing


async def _load_the_rest(session: Session, ledger: Ledger, needs: Needs, *, locks: bool) -> set[str]:
    """What else the requests name, and what the rows make necessary; gives the parents that are busy."""
    if needs.keys:
        keys = Wanted(
            {**INSTANCE_KEY, "name": "id"}, sorted((part(name), name, key) for name, key in needs.keys)
        )
        ledger.known_keys.update((name, key) for name, key in await session.fetch_wanted(KNOWN_KEYS, keys))
    if needs.end_tokens:
        ends = Wanted(
            {**INSTANCE_KEY, "token": "id"}, [(part(name), name, end) for name, end in needs.end_tokens]
        )
        ledger.ended_by.update((name, end) for name, end in await session.fetch_wanted(ENDED_BY, ends))
    further = needs_of_batch.further(ledger, needs)
    busy = await load_runs(session, ledger, further.instances, locks=locks)
    await load_past_runs(session, ledger, further.runs)
    await _load_unread(session, ledger, further.unread)
    return busy


async def load_past_runs(session: Session, ledger: Ledger, keys: Sequence[RunKey]) -> None:
    """Earlier runs."""
    if not keys:
        return
    ledger.past.update(dict.fromkeys(keys))
    for values in await session.fetch_wanted(READ_PAST_RUNS, of_runs(keys)):
        row = RunRow(*values)
        ledger.past[RunKey(row.instance_id, row.run_id)] = row


async def _load_unread(session: Session, ledger: Ledger, inboxes: dict[str, InboxRange]) -> None:
    if not inboxes:
        return
    beyond: dict[str, Kind] = {**INSTANCE_KEY, "beyond": "int"}
    wanted = Wanted(beyond, [(part(name), name, one.beyond) for name, one in inboxes.items()])
    found: dict[str, list[InboxRow]] = {name: [] for name in inboxes}
    for values in await session.fetch_each(UNREAD, wanted, max(one.limit for one in inboxes.values())):
        row = InboxRow(*values)
        found[row.instance_id].append(row)
    for name, rows in found.items():
        ledger.unread[name] = rows[: inboxes[name].limit]
