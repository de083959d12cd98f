"""Queries: put by clients, handed to one worker at a time, answered, and kept for ten minutes after."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from durable.backends.records import (
    Accepted,
    AskedTask,
    Claimant,
    InstanceRef,
    Lost,
    NotFound,
    Question,
    Reply,
    Ticket,
)
from durable.backends.sql.handed import LastClaims
from durable.backends.sql.ledger import RunKey
from durable.backends.sql.rows import RunRow
from durable.backends.sql.server.loading import (
    INSTANCE_KEY,
    READ_PAST_RUNS,
    READ_RUNS,
    columns,
    of_instances,
    of_runs,
    part,
    same,
)
from durable.backends.sql.server.session import Query, Session, Topics, Wanted
from durable.backends.sql.server.tables import QUESTIONS, Kind

KEPT_US = 10 * 60 * 1_000_000
LOOK_AT_MOST = 1_000
FORGET_AT_MOST = 1_000

_KEY: dict[str, Kind] = {**INSTANCE_KEY, "id": "id"}
_COLUMNS = ("part", "instance_id", "id", "run_id", "name", "body", "expires_at_us", "claimable_at_us")
_NEW = (
    *("part", "id", "instance_id", "run_id", "name", "body", "asked_at_us", "expires_at_us"),
    *("claimable_at_us", "kept_until_us"),
)
_ROW = columns(_COLUMNS, "q")
NOW = "SELECT 'now', 0, '', '', '', '', '', @now, 0"
_HELD = f"{_ROW} FROM @questions AS q WHERE q.claimable_at_us"
WAITING = f"SELECT 'due', {_HELD} <= @now ORDER BY q.claimable_at_us LIMIT ?"
WAITING_BEHIND = (
    f"SELECT {_HELD} <= ? AND q.claimable_at_us >= ? AND (q.claimable_at_us > ? OR q.instance_id > ? "
    "OR (q.instance_id = ? AND q.id > ?)) ORDER BY q.claimable_at_us, q.instance_id, q.id LIMIT ?"
)
NEXT_HELD = f"SELECT 'next', {_HELD} > @now ORDER BY q.claimable_at_us LIMIT 1"
LOCK_FREE = (
    f"SELECT {_ROW} FROM @questions AS q JOIN @wanted ON {same('q', _KEY)} "
    "ORDER BY q.part, q.instance_id, q.id FOR UPDATE SKIP LOCKED"
)
LOCK = (
    "SELECT q.part, q.instance_id, q.id, q.claimable_at_us, q.expires_at_us, q.reply, @now "
    f"FROM @questions AS q JOIN @wanted ON {same('q', _KEY)} ORDER BY q.part, q.instance_id, q.id FOR UPDATE"
)
OLD = (
    "SELECT q.part, q.instance_id, q.id FROM @questions AS q WHERE q.kept_until_us <= @now "
    "ORDER BY q.kept_until_us LIMIT ?"
)
REPLIES = f"SELECT q.instance_id, q.id, q.reply FROM @questions AS q JOIN @wanted ON {same('q', _KEY)}"
UPDATE_REPLIES = (
    f"SELECT u.instance_id, u.id, u.body FROM @update_replies AS u JOIN @wanted ON {same('u', _KEY)}"
)


class QuestionKey(NamedTuple):
    """A question, named."""

    instance_id: str
    id: str


class Waiting(NamedTuple):
    """A question that is not answered, as far as claims need it."""

    part: int
    instance_id: str
    id: str
    run_id: str | None
    name: str
    body: str
    expires_at_us: int
    claimable_at_us: int | None

    @property
    def key(self) -> QuestionKey:
        """What it is called."""
        return QuestionKey(self.instance_id, self.id)


@dataclass(slots=True)
class Look:
    """The questions that wait, and when the lease of the next one that is held runs out."""

    now_us: int = 0
    due: list[Waiting] = field(default_factory=list)
    next_us: int | None = None


def _of_questions(keys: Iterable[tuple[str, str]]) -> Wanted:
    return Wanted(_KEY, sorted((part(name), name, question_id) for name, question_id in keys))


# --- asking


async def ask(session: Session, asked: Sequence[Question], topics: Topics) -> list[Ticket | NotFound]:
    """Put questions about runs that there are."""
    now_us = (await session.fetch("SELECT @now"))[0][0]
    wanted = _of_questions({(one.ref.instance_id, one.id) for one in asked})
    there = {QuestionKey(*row[:2]) for row in await session.fetch_wanted(REPLIES, wanted)}
    _, runs = await runs_of(session, [one.ref for one in asked])
    rows: dict[QuestionKey, tuple[Any, ...]] = {}
    tickets: list[Ticket | NotFound] = []
    for one, run in zip(asked, runs, strict=True):
        key = QuestionKey(one.ref.instance_id, one.id)
        if key not in there and key not in rows:
            if run is None:
                tickets.append(NotFound())
                continue
            expires = now_us + one.timeout_us
            names = (part(key.instance_id), one.id, key.instance_id, one.ref.run_id, one.name, one.body)
            rows[key] = (*names, now_us, expires, now_us, expires + KEPT_US)
            topics.add("question")
        tickets.append(Ticket(id=one.id, instance_id=key.instance_id))
    await session.insert(QUESTIONS, [rows[key] for key in sorted(rows)], columns=_NEW, if_absent=True)
    return tickets


async def forget_old(session: Session) -> None:
    """Remove questions that nobody will look up any more, as many as one batch takes."""
    if rows := await session.fetch(OLD, FORGET_AT_MOST):
        # Locked by key: a lock on rows in all parts is more than a distributed server gives.
        free = await session.fetch_wanted(LOCK_FREE, Wanted(_KEY, sorted(rows)))
        await session.delete(QUESTIONS, QUESTIONS.key, [row[:3] for row in free])


async def runs_of(session: Session, refs: Sequence[InstanceRef]) -> tuple[int, list[RunRow | None]]:
    """The runs that are named, the current one of the instance or that very one; and the time (0 if there is none)."""
    if not refs:
        return 0, []
    rows = await session.fetch_wanted(READ_RUNS, of_instances({ref.instance_id for ref in refs}))
    now_us = rows[0][0] if rows else 0
    current = {row.instance_id: row for row in (RunRow(*values[1:]) for values in rows)}
    past: dict[RunKey, RunRow] = {}
    wanted = [
        RunKey(ref.instance_id, ref.run_id)
        for ref in refs
        if ref.run_id is not None
        and (row := current.get(ref.instance_id)) is not None
        and row.run_id != ref.run_id
    ]
    if wanted:
        for values in await session.fetch_wanted(READ_PAST_RUNS, of_runs(set(wanted))):
            earlier = RunRow(*values)
            past[RunKey(earlier.instance_id, earlier.run_id)] = earlier
    found: list[RunRow | None] = []
    for ref in refs:
        row = current.get(ref.instance_id)
        if row is None or ref.run_id is None or row.run_id == ref.run_id:
            found.append(row)
        else:
            found.append(past.get(RunKey(ref.instance_id, ref.run_id)))
    return now_us, found


# --- claiming


async def look_for_questions(session: Session) -> Look:
    """What waits. Questions are few and live for seconds, so a claim looks at each."""
    look = Look()
    queries = [Query(NOW), Query(WAITING, (LOOK_AT_MOST,)), Query(NEXT_HELD)]
    rows = await session.fetch_union(queries)
    for what, *values in sorted(rows, key=lambda row: (row[8], row[2], row[3])):
        if what == "now":
            look.now_us = values[6]
        elif what == "due":
            look.due.append(Waiting(*values))
        else:
            look.next_us = values[7]
    return look


class QuestionClaims:
    """Hands out questions."""

    def __init__(self) -> None:
        self._last: LastClaims[QuestionKey] = LastClaims()

    def again(self, claimant: Claimant) -> bool:
        """Whether this is the repetition of a claim that was handed something."""
        return bool(self._last.again(claimant)[1])

    async def claim(self, session: Session, claimant: Claimant, limit: int, look: Look) -> list[AskedTask]:
        """Up to ``limit`` of what the look has found that the claimant has the code for."""
        until_us, before = self._last.again(claimant)
        items = await _handed_again(session, look.now_us, until_us, before)
        kept_us = until_us if items else look.now_us + claimant.lease_us
        items += await _take(session, claimant, look, limit - len(items))
        # All that was looked at may be for others, who may never come.
        # The look had any of those that came together with its last: they are looked at once more, in order.
        beyond = (look.due[-1].claimable_at_us, "", "") if len(look.due) >= LOOK_AT_MOST else None
        while beyond is not None and len(items) < limit:
            page = Look(look.now_us, await _behind(session, look.now_us, *beyond), look.next_us)
            items += await _take(session, claimant, page, limit - len(items))
            look.next_us = page.next_us
            last = page.due[-1] if len(page.due) >= LOOK_AT_MOST else None
            beyond = None if last is None else (last.claimable_at_us, last.instance_id, last.id)
        self._last.remember(claimant, kept_us, [key for key, _ in items])
        return [task for _, task in items]


async def _behind(session: Session, now_us: int, at_us: int | None, name: str, id: str) -> list[Waiting]:
    """What waits behind this place."""
    rows = await session.fetch(WAITING_BEHIND, now_us, at_us, at_us, name, name, id, LOOK_AT_MOST)
    return [Waiting(*row) for row in rows]


async def _take(
    session: Session, claimant: Claimant, look: Look, limit: int
) -> list[tuple[QuestionKey, AskedTask]]:
    kinds = {(one.workflow, one.version) for one in claimant.workflows}
    wanted: list[QuestionKey] = []
    over: list[QuestionKey] = []
    tasks: dict[QuestionKey, AskedTask] = {}
    for waiting, task in await _tasks(session, look.now_us, look.due):
        if task is None:
            over.append(waiting.key)
        elif (task.workflow, task.version) in kinds and len(wanted) < limit:
            wanted.append(waiting.key)
            tasks[waiting.key] = task
    if not (wanted or over):
        return []
    had = [Waiting(*row) for row in await session.fetch_wanted(LOCK_FREE, _of_questions([*wanted, *over]))]
    free = {one.key for one in had if one.claimable_at_us is not None and one.claimable_at_us <= look.now_us}
    until_us = look.now_us + claimant.lease_us
    ends = [
        (until_us if key in tasks else None, part(key.instance_id), *key)
        for key in (*wanted, *over)
        if key in free
    ]
    await session.update(QUESTIONS, ("claimable_at_us",), ends)
    items = [(key, tasks[key]) for key in wanted if key in free]
    if items and (look.next_us is None or until_us < look.next_us):
        look.next_us = until_us
    return items


async def _tasks(
    session: Session, now_us: int, questions: Sequence[Waiting]
) -> list[tuple[Waiting, AskedTask | None]]:
    """Each with its run; ``None`` when it has run out or its run is gone."""
    _, runs = await runs_of(
        session, [InstanceRef(instance_id=one.instance_id, run_id=one.run_id) for one in questions]
    )
    return [
        (one, None if run is None or one.expires_at_us <= now_us else _task(one, run))
        for one, run in zip(questions, runs, strict=True)
    ]


def _task(one: Waiting, run: RunRow) -> AskedTask:
    return AskedTask(
        question_id=one.id,
        name=one.name,
        body=one.body,
        instance_id=one.instance_id,
        run_id=run.run_id,
        workflow=run.workflow,
        version=run.version,
        head=run.head,
    )


async def _handed_again(
    session: Session, now_us: int, until_us: int, before: list[QuestionKey]
) -> list[tuple[QuestionKey, AskedTask]]:
    if not before:
        return []
    rows = [Waiting(*row) for row in await session.fetch_wanted(LOCK_FREE, _of_questions(before))]
    held = {one.key: one for one in rows if one.claimable_at_us == until_us}
    tasks = await _tasks(session, now_us, [held[key] for key in before if key in held])
    return [(one.key, task) for one, task in tasks if task is not None]


# --- answering


async def answer(session: Session, replies: Sequence[Reply], topics: Topics) -> list[Accepted | Lost]:
    """Answer questions that still wait."""
    rows = await session.fetch_wanted(LOCK, _of_questions({(one.instance_id, one.id) for one in replies}))
    open_until: dict[QuestionKey, int] = {}
    for _, instance_id, question_id, claimable_at_us, expires_at_us, reply, now_us in rows:
        if reply is None and claimable_at_us is not None and expires_at_us > now_us:
            open_until[QuestionKey(instance_id, question_id)] = now_us + KEPT_US
    answered: list[tuple[Any, ...]] = []
    verdicts: list[Accepted | Lost] = []
    for one in replies:
        key = QuestionKey(one.instance_id, one.id)
        until_us = open_until.pop(key, None)
        verdicts.append(Lost() if until_us is None else Accepted())
        if until_us is not None:
            answered.append((one.body, None, until_us, part(key.instance_id), *key))
            topics.add("reply")
    answered.sort(key=lambda row: row[3:])
    await session.update(QUESTIONS, ("reply", "claimable_at_us", "kept_until_us"), answered)
    return verdicts


async def replies_to(session: Session, tickets: Sequence[Ticket]) -> list[Reply | None]:
    """The answers to questions or updates."""
    if not tickets:
        return []
    wanted = _of_questions({(one.instance_id, one.id) for one in tickets})
    bodies: dict[QuestionKey, str] = {}
    for sql in (UPDATE_REPLIES, REPLIES):
        for instance_id, question_id, body in await session.fetch_wanted(sql, wanted):
            if body is not None:
                bodies[QuestionKey(instance_id, question_id)] = body
    return [
        None if (body := bodies.get(QuestionKey(one.instance_id, one.id))) is None
        else Reply(id=one.id, instance_id=one.instance_id, body=body)
        for one in tickets
    ]  # fmt: skip
