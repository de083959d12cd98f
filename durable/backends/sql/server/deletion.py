"""Forgetting finished runs, and all that belongs to them.

What they owe to others stays until it is done: events that are not published, children that are not closed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from durable.backends.records import (
    Accepted,
    Busy,
    InstanceRef,
    NotFound,
    Purge,
    State,
    Unfinished,
    Verdict,
)
from durable.backends.sql.ledger import Ledger, RunKey
from durable.backends.sql.rows import RUN_COLUMNS, RunRow, run_values
from durable.backends.sql.server.loading import (
    INSTANCE_KEY,
    READ_PAST_RUNS,
    RUN_KEY,
    load_runs,
    of_instances,
    of_runs,
    part,
    same,
)
from durable.backends.sql.server.session import Query, Row, Session
from durable.backends.sql.server.tables import (
    ACTIVITIES,
    HISTORY,
    INBOX,
    INSTANCES,
    MESSAGE_KEYS,
    PAST_RUNS,
    QUESTIONS,
    UPDATE_REPLIES,
)

_PAST = (
    "SELECT i.instance_id, i.run_id, i.state FROM @past_runs AS i "
    f"JOIN @wanted ON {same('i', INSTANCE_KEY)} ORDER BY i.closed_at_us, i.created_at_us"
)
_OLD = (
    "SELECT i.closed_at_us, i.run_id, i.instance_id FROM {table} AS i "
    "WHERE i.closed_at_us < ? AND i.closed_at_us >= ? AND (i.closed_at_us > ? OR i.run_id > ?) "
    "AND i.state IN ({states}) ORDER BY i.closed_at_us, i.run_id LIMIT ?"
)


class Life(NamedTuple):
    """A run of an instance, as far as deletion cares."""

    run_id: str
    state: State


class Forgetting:
    """The instances that are locked, with their runs in the order of time, and the runs that go."""

    def __init__(self, ledger: Ledger, busy: set[str], lives: dict[str, list[Life]]) -> None:
        self._ledger = ledger
        self._busy = busy
        self._lives = lives
        self._gone: dict[RunKey, None] = {}

    def judge(self, ref: InstanceRef) -> Verdict:
        """One finished run; without a run id the whole instance, if its current run has finished."""
        if ref.instance_id in self._busy:
            return Busy()
        lives = [
            life
            for life in self._lives[ref.instance_id]
            if RunKey(ref.instance_id, life.run_id) not in self._gone and ref.run_id in (None, life.run_id)
        ]
        if not lives:
            return NotFound()
        if (state := lives[-1].state) in ("running", "paused", "stalled"):
            return Unfinished(state=state)
        self._gone.update(dict.fromkeys(RunKey(ref.instance_id, life.run_id) for life in lives))
        return Accepted()

    async def write(self, session: Session) -> None:
        """Remove what goes. With the last run of an instance, all that is known of it; else its last run that is left
        becomes the current one.
        """
        if not self._gone:
            return
        runs = of_runs(self._gone).rows
        for table in (PAST_RUNS, HISTORY, ACTIVITIES):
            await session.delete(table, tuple(RUN_KEY), runs)
        whole: list[tuple[int, str]] = []
        promoted: list[RunKey] = []
        for name in dict.fromkeys(key.instance_id for key in self._gone):
            left = [
                RunKey(name, one.run_id)
                for one in self._lives[name]
                if RunKey(name, one.run_id) not in self._gone
            ]
            row = self._ledger.runs[name]
            if not left:
                whole.append((part(name), name))
            elif row is not None and RunKey(name, row.run_id) in self._gone:
                promoted.append(left[-1])
        await self._make_current(session, promoted)
        for table in (INSTANCES, INBOX, MESSAGE_KEYS, UPDATE_REPLIES, QUESTIONS):
            await session.delete(table, tuple(INSTANCE_KEY), sorted(whole))

    async def _make_current(self, session: Session, keys: Sequence[RunKey]) -> None:
        """The messages of the instance keep their count."""
        if not keys:
            return
        rows = []
        for values in await session.fetch_wanted(READ_PAST_RUNS, of_runs(keys)):
            row = RunRow(*values)
            if (before := self._ledger.runs[row.instance_id]) is not None:
                row.sent, row.seen = before.sent, before.seen
            rows.append((*run_values(row), row.part, row.instance_id))
        await session.update(INSTANCES, RUN_COLUMNS, rows)
        await session.delete(PAST_RUNS, tuple(RUN_KEY), of_runs(keys).rows)


async def _forgetting(session: Session, instance_ids: Iterable[str]) -> Forgetting:
    ledger = Ledger(0)
    names = list(dict.fromkeys(instance_ids))
    busy = await load_runs(session, ledger, names)
    lives: dict[str, list[Life]] = {name: [] for name in names}
    if names:
        for instance_id, run_id, state in await session.fetch_wanted(_PAST, of_instances(names)):
            lives[instance_id].append(Life(run_id, state))
    for row in ledger.runs.values():
        if row is not None:
            lives[row.instance_id].append(Life(row.run_id, row.state))
    return Forgetting(ledger, busy, lives)


async def delete(session: Session, refs: Sequence[InstanceRef]) -> list[Verdict]:
    """Forget these runs or instances."""
    forgetting = await _forgetting(session, (ref.instance_id for ref in refs))
    verdicts = [forgetting.judge(ref) for ref in refs]
    await forgetting.write(session)
    return verdicts


async def purge(session: Session, wanted: Purge) -> list[InstanceRef]:
    """Forget the oldest finished runs. What somebody holds stays for the next time, and those behind it go."""
    beyond = (-1, "")
    while found := await _old(session, wanted, beyond):
        refs = [InstanceRef(instance_id=instance_id, run_id=run_id) for _, run_id, instance_id in found]
        forgetting = await _forgetting(session, (ref.instance_id for ref in refs))
        gone = [ref for ref in refs if isinstance(forgetting.judge(ref), Accepted)]
        if gone:
            await forgetting.write(session)
            return gone
        beyond = found[-1][:2]
    return []


async def _old(session: Session, wanted: Purge, beyond: tuple[int, str]) -> list[Row]:
    """The oldest of those that end behind this place, as many as a batch may have."""
    if not wanted.states or wanted.limit <= 0:
        return []
    marks = ", ".join("?" * len(wanted.states))
    at_us, run_id = beyond
    values = (wanted.closed_before_us, at_us, at_us, run_id, *wanted.states, wanted.limit)
    queries = [
        Query(_OLD.format(table=table, states=marks), values) for table in ("@instances", "@past_runs")
    ]
    return sorted(await session.fetch_union(queries))[: wanted.limit]
