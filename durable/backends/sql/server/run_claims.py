"""Claims of runs: those that are ready, overdue or stalled, and ended ones whose children are to be closed.

A claim first *looks*: one statement, outside of any transaction, made of small queries each of which is one range of
one index, whatever else is due. It gives the keys that are due, more than are wanted since others claim the same, and
when the next one will be. When nothing is due, that was all. Else the rows are locked, looked at again, and handed out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, cast

from durable.backends.records import (
    MAX_CLAIMS,
    MAX_MESSAGES_PER_TASK,
    ChildRef,
    Claimant,
    Closing,
    Overdue,
    ParentClose,
    WorkflowTask,
)
from durable.backends.sql.changes import NEVER_US, lease_run, take_run, workflow_task
from durable.backends.sql.handed import LastClaims
from durable.backends.sql.ledger import Ledger, RunKey
from durable.backends.sql.rows import RunRow
from durable.backends.sql.server.loading import (
    READ_RUNS,
    RUN_KEY,
    load_runs,
    of_instances,
    of_runs,
    part,
    same,
)
from durable.backends.sql.server.plain_claims import lease_plain
from durable.backends.sql.server.reading import Wish, read_events, read_inboxes
from durable.backends.sql.server.saving import save
from durable.backends.sql.server.session import Query, Row, Session, Topics, Wanted
from durable.backends.sql.server.tables import CLOSINGS, Kind

CHILDREN_AT_ONCE = 100

# Ties go by the id: it stands in the index, so that nothing is sorted.
_KIND: dict[str, Kind] = {"queue": "id", "workflow": "id", "version": "id"}
_ACTIVITY_KIND: dict[str, Kind] = {"queue": "id", "name": "id"}
_OF_KIND = same("i", _KIND)
NOW = "SELECT 'now', @now, 0, '', ''"
READY = (
    f"SELECT CASE WHEN i.claims < {MAX_CLAIMS} THEN 'plain' ELSE 'ready' END, i.claimable_at_us, "
    f"i.part, i.instance_id, i.run_id FROM @instances AS i WHERE {_OF_KIND} AND i.claimable_at_us <= @now "
    "ORDER BY i.claimable_at_us, i.instance_id LIMIT ?"
)
NEXT_READY = (
    "SELECT 'next', i.claimable_at_us, i.part, i.instance_id, i.run_id FROM @instances AS i "
    f"WHERE {_OF_KIND} AND i.claimable_at_us > @now ORDER BY i.claimable_at_us, i.instance_id LIMIT 1"
)
_OWN = (
    "i.ready_at_us, i.part, i.instance_id, i.run_id FROM @instances AS i WHERE i.lease_owner = ? "
    f"AND i.state = 'running' AND {_OF_KIND}"
)
OWN = f"SELECT 'plain', {_OWN} AND i.ready_at_us <= @now ORDER BY i.ready_at_us, i.instance_id LIMIT ?"
NEXT_OWN = f"SELECT 'next', {_OWN} AND i.ready_at_us > @now ORDER BY i.ready_at_us, i.instance_id LIMIT 1"
_OVERDUE = "i.overdue_at_us, i.part, i.instance_id, i.run_id FROM @instances AS i WHERE i.overdue_at_us"
OVERDUE = f"SELECT 'overdue', {_OVERDUE} <= @now ORDER BY i.overdue_at_us LIMIT ?"
NEXT_OVERDUE = f"SELECT 'next', {_OVERDUE} > @now ORDER BY i.overdue_at_us LIMIT 1"
_CLOSING = "c.claimable_at_us, c.part, c.instance_id, c.run_id FROM @closings AS c WHERE c.claimable_at_us"
CLOSING = f"SELECT 'closing', {_CLOSING} <= @now ORDER BY c.claimable_at_us LIMIT ?"
NEXT_CLOSING = f"SELECT 'next', {_CLOSING} > @now ORDER BY c.claimable_at_us LIMIT 1"
_RETRYABLE = f"i.retryable_at_us, i.part, i.instance_id, i.run_id FROM @instances AS i WHERE {_OF_KIND}"
RETRYABLE = (
    f"SELECT 'ready', {_RETRYABLE} AND i.retryable_at_us <= @now "
    "ORDER BY i.retryable_at_us, i.instance_id LIMIT ?"
)
NEXT_RETRYABLE = (
    f"SELECT 'next', {_RETRYABLE} AND i.retryable_at_us > @now "
    "ORDER BY i.retryable_at_us, i.instance_id LIMIT 1"
)
STALLED_ELSEWHERE = (
    f"SELECT 'ready', {_RETRYABLE} AND i.retryable_at_us IS NOT NULL "
    "AND (i.problem_build IS NULL OR i.problem_build <> wanted.build) AND coalesce(i.lease_until_us, 0) <= @now "
    "LIMIT ?"
)

# Whether there is work of other kinds, which then need not be asked for as often.
WAITING_ACTIVITY = (
    "SELECT 'activity', a.claimable_at_us, a.part, a.instance_id, a.run_id FROM @activities AS a "
    "WHERE a.queue = wanted.queue AND a.name = wanted.name AND a.claimable_at_us <= @now "
    "ORDER BY a.claimable_at_us, a.instance_id, a.run_id, a.number LIMIT 1"
)
WAITING_QUESTION = (
    "SELECT 'question', q.claimable_at_us, q.part, q.instance_id, '' FROM @questions AS q "
    "WHERE q.claimable_at_us <= @now ORDER BY q.claimable_at_us LIMIT 1"
)

_CLOSING_COLUMNS = "c.claimable_at_us, c.part, c.run_id, c.instance_id"
LOCK_CLOSINGS = (
    f"SELECT {_CLOSING_COLUMNS} FROM @closings AS c JOIN @wanted ON {same('c', RUN_KEY)} "
    "ORDER BY c.part, c.instance_id, c.run_id FOR UPDATE SKIP LOCKED"
)
# A child that was asked to end has the message key that its parent's end has given it.
CHILDREN_TO_CLOSE = (
    "SELECT wanted.instance_id AS parent_id, wanted.run_id AS parent_run_id, i.instance_id, i.run_id, i.parent_close, "
    "i.created_at_us FROM @instances AS i WHERE i.parent_id = wanted.instance_id "
    "AND i.parent_run_id = wanted.run_id AND i.closed_at_us IS NULL AND i.parent_close <> 'abandon' "
    "AND NOT (i.parent_close = 'cancel' AND EXISTS (SELECT 1 FROM @message_keys AS k WHERE k.part = i.part "
    "AND k.instance_id = i.instance_id AND k.key = wanted.close_key)) "
    "ORDER BY i.created_at_us, i.run_id LIMIT ?"
)

Task = WorkflowTask | Overdue | Closing
Take = Callable[[Ledger, RunRow, Claimant], bool]


class HandedRun(NamedTuple):
    """What a claim was handed: a ``run``, an ``overdue`` one, or a ``closing``."""

    what: str
    instance_id: str
    run_id: str


@dataclass(slots=True)
class Look:
    """What is due, each with its time, and what comes next. ``tried``: their locks were asked for already.

    ``plain``: the ids of runs, by instance, that are ready and need not be looked at again before they are handed out.
    """

    now_us: int = 0
    ready: dict[str, int] = field(default_factory=dict)
    overdue: dict[str, int] = field(default_factory=dict)
    closing: dict[RunKey, int] = field(default_factory=dict)
    following: list[tuple[int, str]] = field(default_factory=list)
    others: Topics = field(default_factory=set)
    """What there is beside runs, for the same worker."""
    tried: set[str] = field(default_factory=set)
    plain: dict[str, str] = field(default_factory=dict)

    @property
    def nothing(self) -> bool:
        """Whether nothing is due."""
        return not (self.ready or self.overdue or self.closing)

    @property
    def next_us(self) -> int | None:
        """When the next of all that is left is (or was) due."""
        left = [*self.ready.values(), *self.overdue.values(), *self.closing.values()]
        return min([*left, *(at_us for at_us, _ in self.following)], default=None)

    def fresh(self) -> Look:
        """A copy to be used up: the transaction may be repeated."""
        return Look(
            self.now_us, dict(self.ready), dict(self.overdue), dict(self.closing), list(self.following)
        )


def seen(rows: Iterable[Row]) -> Look:
    """Sort what a look has found, longest due first."""
    look, others = Look(), set[str]()
    for what, at_us, _, instance_id, run_id in sorted(rows, key=lambda row: (row[1], row[3], row[4])):
        match what:
            case "now":
                look.now_us = at_us
            case "plain":
                look.ready.setdefault(instance_id, at_us)
                look.plain[instance_id] = run_id
            case "ready":
                look.ready.setdefault(instance_id, at_us)
                others.add(instance_id)
            case "overdue":
                look.overdue.setdefault(instance_id, at_us)
            case "closing":
                look.closing.setdefault(RunKey(instance_id, run_id), at_us)
            case "activity" | "question":
                look.others.add(what)
            case _:
                look.following.append((at_us, instance_id))
    for name in others:
        look.plain.pop(name, None)
    return look


def window_of(limit: int) -> int:
    """How many keys are looked at for a claim of ``limit``: others claim the same at the same time."""
    return max(4 * limit, limit + 16)


class RunClaims:
    """Hands out runs."""

    def __init__(self) -> None:
        self._last: LastClaims[HandedRun] = LastClaims()
        self._last_stalled: LastClaims[HandedRun] = LastClaims()

    def again(self, claimant: Claimant, *, stalled: bool) -> bool:
        """Whether this is the repetition of a claim that was handed something."""
        return bool((self._last_stalled if stalled else self._last).again(claimant)[1])

    async def claim_plain(
        self, session: Session, claimant: Claimant, limit: int, look: Look
    ) -> tuple[list[WorkflowTask], Look]:
        """The plain ones among the first ``limit`` of what is due, and as many behind them as others have taken; and
        what is left, of which the general claim takes the rest. Not for a claim that is repeated.
        """
        due = list(look.ready)
        others = sum(name not in look.plain for name in due[:limit]) + len(look.overdue) + len(look.closing)
        if (room := limit - others) <= 0:
            return [], look
        keys = [RunKey(name, look.plain[name]) for name in due if name in look.plain]
        # Before it is known which: should the reply be lost, the rows' token tells.
        self._last.remember(claimant, 0, [HandedRun("run", *key) for key in keys])
        now_us, tasks = await lease_plain(session, claimant, room, keys)
        self._last.remember(claimant, 0, [HandedRun("run", one.instance_id, one.run_id) for one in tasks])
        taken = {one.instance_id for one in tasks}
        if any(name in taken for _, name in look.following):
            left = await look_for_runs(session, claimant, 1)
            left.plain.clear()
            return tasks, left
        gone = taken if len(tasks) == room else look.plain.keys()
        left = look.fresh()
        left.now_us = now_us or look.now_us
        left.ready = {name: at_us for name, at_us in look.ready.items() if name not in gone}
        left.following += [(left.now_us + claimant.lease_us, "") for _ in tasks[:1]]
        timers = [one.wake_at_us for one in tasks if one.wake_at_us is not None]
        left.following += [(at_us, "") for at_us in timers if at_us > left.now_us]
        return tasks, left

    async def claim(
        self,
        session: Session,
        claimant: Claimant,
        limit: int,
        found: Look,
        had: Sequence[WorkflowTask] = (),
    ) -> tuple[list[Task], Look]:
        """Up to ``limit`` of what the look has found, in a transaction; and what is left after that.

        ``had``: what the same claim was handed as plain runs.
        """
        until_us, before = (0, []) if had else self._last.again(claimant)
        ledger, look = Ledger(0), found.fresh()
        look.tried.update([*list(look.overdue)[:limit], *list(look.ready)[:limit]])
        await load_runs(session, ledger, look.tried, only_had=True)
        new_until_us = ledger.now_us + claimant.lease_us
        items = await _still_handed(session, claimant, until_us, before)
        items += _take_overdue(ledger, claimant, look, limit - len(items))
        items += await _take_closings(session, ledger, claimant, look, limit - len(items))
        items += await _take_ready(session, ledger, claimant, look, limit - len(items), _take_if_ready)
        await save(session, ledger)
        # Before the commit: its reply may be lost too. What was not committed is not handed out again.
        keys = [HandedRun("run", one.instance_id, one.run_id) for one in had] + [key for key, _ in items]
        self._last.remember(claimant, until_us if before else new_until_us, keys)
        names = {key.instance_id for key, _ in items}
        if any(name in names for _, name in look.following):
            look = await look_for_runs(session, claimant, 1)
        look.now_us = ledger.now_us
        return [task for _, task in items], look

    async def claim_stalled(
        self, session: Session, claimant: Claimant, limit: int, found: Look, *, at_start: bool
    ) -> tuple[list[WorkflowTask], Look]:
        """The same for stalled runs."""
        until_us, before = self._last_stalled.again(claimant)
        ledger, look = Ledger(0), found.fresh()
        look.tried.update(list(look.ready)[:limit])
        await load_runs(session, ledger, look.tried, only_had=True)
        items = await _still_handed(session, claimant, until_us, before)
        items += await _take_ready(session, ledger, claimant, look, limit - len(items), _take_if_stalled)
        await save(session, ledger)
        self._last_stalled.remember(claimant, ledger.now_us + claimant.lease_us, [key for key, _ in items])
        if not at_start:
            look = await look_for_stalled(session, claimant, 1, at_start=False)
        look.now_us = ledger.now_us
        return [task for _, task in items if isinstance(task, WorkflowTask)], look


# --- looking


def kinds_of(claimant: Claimant) -> Wanted:
    """The kinds of runs that a claimant takes."""
    kinds = [(queue, one.workflow, one.version) for queue in claimant.queues for one in claimant.workflows]
    return Wanted(_KIND, list(dict.fromkeys(kinds)))


def activity_kinds_of(claimant: Claimant) -> Wanted:
    """The kinds of activities that a claimant takes."""
    kinds = [(queue, name) for queue in claimant.queues for name in claimant.activities]
    return Wanted(_ACTIVITY_KIND, list(dict.fromkeys(kinds)))


async def look_for_runs(session: Session, claimant: Claimant, limit: int) -> Look:
    """What is ready, overdue or to be closed."""
    kinds, window, owner = kinds_of(claimant), window_of(limit), claimant.worker_id
    queries = [
        Query(NOW),
        Query(READY, (window,), kinds),
        Query(NEXT_READY, (), kinds),
        Query(OWN, (owner, window), kinds),
        Query(NEXT_OWN, (owner,), kinds),
        Query(OVERDUE, (limit + 1,)),
        Query(NEXT_OVERDUE),
        Query(CLOSING, (limit + 1,)),
        Query(NEXT_CLOSING),
        Query(WAITING_ACTIVITY, (), activity_kinds_of(claimant)),
        Query(WAITING_QUESTION),
    ]
    return seen(await session.fetch_union(queries))


async def look_for_stalled(session: Session, claimant: Claimant, limit: int, *, at_start: bool) -> Look:
    """What is stalled and worth another try."""
    window = window_of(limit)
    if at_start:
        rows = [
            (queue, one.workflow, one.version, one.build)
            for queue in claimant.queues
            for one in claimant.workflows
        ]
        with_build = Wanted({**_KIND, "build": "id"}, list(dict.fromkeys(rows)))
        queries = [Query(NOW), Query(STALLED_ELSEWHERE, (window,), with_build)]
    else:
        kinds = kinds_of(claimant)
        queries = [Query(NOW), Query(RETRYABLE, (window,), kinds), Query(NEXT_RETRYABLE, (), kinds)]
    look = seen(await session.fetch_union(queries))
    look.following = [one for one in look.following if one[0] < NEVER_US]
    return look


# --- ready


async def _take_ready(
    session: Session, ledger: Ledger, claimant: Claimant, look: Look, limit: int, take: Take
) -> list[tuple[HandedRun, Task]]:
    """Lock what was found, as much at a time as is still wanted: of what others hold there may be more."""
    kinds = set(map(tuple, kinds_of(claimant).rows))
    names, taken = list(look.ready), list[RunRow]()
    while names and len(taken) < limit:
        some, names = names[: limit - len(taken)], names[limit - len(taken) :]
        await load_runs(session, ledger, [name for name in some if name not in look.tried], only_had=True)
        for name in some:
            del look.ready[name]
            row = ledger.runs.get(name)
            if row is None or (row.queue, row.workflow, row.version) not in kinds:
                continue
            if take(ledger, row, claimant):
                taken.append(row)
    for row in taken:
        times = (row.claimable_at_us, row.ready_at_us)
        look.following += [(at_us, "") for at_us in times if at_us is not None]
    return [
        (HandedRun("run", row.instance_id, row.run_id), task) for row, task in await _tasks(session, taken)
    ]


def _take_if_ready(ledger: Ledger, row: RunRow, claimant: Claimant) -> bool:
    """Judged anew: it may have changed since it was found."""
    mine = row.lease_owner == claimant.worker_id
    due = (row.claimable_at_us, row.ready_at_us if mine else None)
    ready = row.state == "running" and any(at_us is not None and at_us <= ledger.now_us for at_us in due)
    return ready and take_run(ledger, row, claimant)


def _take_if_stalled(ledger: Ledger, row: RunRow, claimant: Claimant) -> bool:
    if row.retryable_at_us is None or (row.lease_until_us or 0) > ledger.now_us:
        return False
    lease_run(ledger, row, claimant)
    return True


async def _tasks(session: Session, rows: Sequence[RunRow]) -> list[tuple[RunRow, WorkflowTask]]:
    inboxes = await read_inboxes(session, [row.instance_id for row in rows if row.sent])
    made = [Wish(row.instance_id, row.run_id, 0) for row in rows if row.head_number == 1]
    _, events = await read_events(session, made)
    tasks = []
    for row in rows:
        messages = tuple(inboxes.get(row.instance_id, ()))
        first, all_of_them = messages[:MAX_MESSAGES_PER_TASK], len(messages) <= MAX_MESSAGES_PER_TASK
        its_events = events.get(Wish(row.instance_id, row.run_id, 0)) or None
        tasks.append((row, workflow_task(row, first, all_of_them=all_of_them, events=its_events)))
    return tasks


# --- handed once more


async def _still_handed(
    session: Session, claimant: Claimant, until_us: int, before: list[HandedRun]
) -> list[tuple[HandedRun, Task]]:
    if not before:
        return []
    names = {key.instance_id for key in before if key.what != "closing"}
    rows = {}
    for values in await session.fetch_wanted(READ_RUNS, of_instances(names)) if names else ():
        found = RunRow(*values[1:])
        rows[found.instance_id] = found
    runs = [
        row for key in before if (row := _still_held(rows, key, claimant, until_us)) and key.what == "run"
    ]
    tasks = {row.instance_id: task for row, task in await _tasks(session, runs)}
    closings = await _closings_held(session, before, until_us)
    items: list[tuple[HandedRun, Task]] = []
    for key in before:
        task: Task | None
        if key.what == "closing":
            task = closings.get(RunKey(key.instance_id, key.run_id))
        elif (row := _still_held(rows, key, claimant, until_us)) is None:
            task = None
        else:
            task = _overdue(row) if key.what == "overdue" else tasks[key.instance_id]
        if task is not None:
            items.append((key, task))
    return items


def _still_held(rows: dict[str, RunRow], key: HandedRun, claimant: Claimant, until_us: int) -> RunRow | None:
    row = rows.get(key.instance_id)
    if row is None or row.run_id != key.run_id:
        return None
    if key.what == "overdue":
        return row if row.overdue_at_us == until_us else None
    mine = row.lease_owner == claimant.worker_id and row.claim_token == claimant.token
    return row if mine else None


async def _closings_held(session: Session, before: list[HandedRun], until_us: int) -> dict[RunKey, Closing]:
    keys = [RunKey(key.instance_id, key.run_id) for key in before if key.what == "closing"]
    if not keys:
        return {}
    rows = await session.fetch_wanted(LOCK_CLOSINGS, of_runs(keys))
    held = [RunKey(row[3], row[2]) for row in rows if row[0] == until_us]
    return {
        key: closing for key, closing in (await closings_of(session, held)).items() if closing is not None
    }


# --- overdue


def _take_overdue(ledger: Ledger, claimant: Claimant, look: Look, limit: int) -> list[tuple[HandedRun, Task]]:
    items: list[tuple[HandedRun, Task]] = []
    for name in list(look.overdue)[: max(0, limit)]:
        del look.overdue[name]
        row = ledger.runs.get(name)
        if row is not None and row.overdue_at_us is not None and row.overdue_at_us <= ledger.now_us:
            row.overdue_at_us = ledger.now_us + claimant.lease_us
            look.following.append((row.overdue_at_us, ""))
            items.append((HandedRun("overdue", name, row.run_id), _overdue(row)))
    return items


def _overdue(row: RunRow) -> Overdue:
    return Overdue(
        instance_id=row.instance_id,
        run_id=row.run_id,
        workflow=row.workflow,
        deadline_us=row.deadline_us or 0,
        parent=row.parent,
    )


# --- closing


async def _take_closings(
    session: Session, ledger: Ledger, claimant: Claimant, look: Look, limit: int
) -> list[tuple[HandedRun, Task]]:
    keys = list(look.closing)[: max(0, limit)]
    for key in keys:
        del look.closing[key]
    if not keys:
        return []
    rows = await session.fetch_wanted(LOCK_CLOSINGS, of_runs(keys))
    due = [RunKey(row[3], row[2]) for row in rows if row[0] <= ledger.now_us]
    until_us = ledger.now_us + claimant.lease_us
    items: list[tuple[HandedRun, Task]] = []
    held, done = [], []
    for key, closing in (await closings_of(session, due)).items():
        if closing is None:
            done.append(key)
        else:
            held.append((until_us, part(key.instance_id), *key))
            items.append((HandedRun("closing", *key), closing))
    await session.update(CLOSINGS, ("claimable_at_us",), held)
    # Only looked at: a child may be in the making. `close_done` judges under its parent's lock.
    await forget_closings(session, ledger, done)
    if held:
        look.following.append((until_us, ""))
    return items


async def closings_of(session: Session, parents: Sequence[RunKey]) -> dict[RunKey, Closing | None]:
    """The children that are unfinished, not abandoned, and were not yet asked to end; oldest first, up to 100."""
    children: dict[RunKey, list[ChildRef]] = {key: [] for key in parents}
    of_parent: dict[str, Kind] = {"instance_id": "id", "run_id": "id", "close_key": "id"}
    wanted = Wanted(of_parent, [(*key, f"close/{key.run_id}") for key in parents])
    if parents:
        rows = await session.fetch_each(CHILDREN_TO_CLOSE, wanted, CHILDREN_AT_ONCE + 1)
        for parent_id, parent_run_id, instance_id, run_id, close, _ in rows:
            child = ChildRef(instance_id=instance_id, run_id=run_id, close=cast(ParentClose, close))
            children[RunKey(parent_id, parent_run_id)].append(child)
    return {key: _closing(key, its_children) for key, its_children in children.items()}


def _closing(parent: RunKey, children: list[ChildRef]) -> Closing | None:
    if not children:
        return None
    return Closing(
        instance_id=parent.instance_id,
        run_id=parent.run_id,
        children=tuple(children[:CHILDREN_AT_ONCE]),
        more=len(children) > CHILDREN_AT_ONCE,
    )


async def forget_closings(session: Session, ledger: Ledger, parents: Sequence[RunKey]) -> list[RunKey]:
    """Forget that the children of these runs are to be closed, if there are none; gives those that have some.

    Under the lock of the parents' instances, for a child that is being made holds that too. Those that cannot be had
    stay, and come again.
    """
    if not parents:
        return []
    names = {key.instance_id for key in parents if key.instance_id not in ledger.runs}
    busy = await load_runs(session, ledger, names)
    mine = [key for key in parents if key.instance_id not in busy]
    closings = await closings_of(session, mine)
    done = [(part(key.instance_id), *key) for key, closing in closings.items() if closing is None]
    await session.delete(CLOSINGS, CLOSINGS.key, sorted(done))
    return [key for key, closing in closings.items() if closing is not None]


async def close_done(session: Session, parents: Sequence[RunKey]) -> bool:
    """Judge anew whether these runs have children to be closed; whether any has."""
    ledger = Ledger(0)
    unfinished = await forget_closings(session, ledger, list(dict.fromkeys(parents)))
    if not unfinished:
        return False
    rows = await session.fetch_wanted(LOCK_CLOSINGS, of_runs(unfinished))
    again = [(ledger.now_us, row[1], row[3], row[2]) for row in rows]
    return bool(await session.update(CLOSINGS, ("claimable_at_us",), again))
