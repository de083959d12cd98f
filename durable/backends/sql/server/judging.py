"""What every call of the store is made of: a transaction, which is repeated as a whole when the server ends it; and for
batches *lock, judge, write*.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from operator import itemgetter
from typing import Any, Generic, TypeVar

from durable.backends.records import Answer, Busy, Refused
from durable.backends.sql.ledger import Ledger
from durable.backends.sql.needs import Needs
from durable.backends.sql.server.gathering import Gathering
from durable.backends.sql.server.loading import load, part
from durable.backends.sql.server.one_statement import OneStatement
from durable.backends.sql.server.saving import save
from durable.backends.sql.server.session import Again, Culprit, Database, Ring, Row, Session, Topics, Wanted
from durable.errors import BackendError

Q = TypeVar("Q")
A = TypeVar("A")
R = TypeVar("R")

ATTEMPTS = 10
FIRST_PAUSE_SECONDS = 0.005
LONGEST_PAUSE_SECONDS = 0.25


async def repeated(url: str, attempt: Callable[[], Awaitable[R]]) -> R:
    """Do it again when the server has ended the transaction, a few times; then it is a `BackendError`."""
    pause = FIRST_PAUSE_SECONDS
    for _ in range(ATTEMPTS - 1):
        try:
            return await attempt()
        except Again:
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))
            pause = min(pause * 2, LONGEST_PAUSE_SECONDS)
    try:
        return await attempt()
    except Again as error:
        raise BackendError(
            f"{url}: the server ended the transaction {ATTEMPTS} times, lastly: {error}"
        ) from error


class Calls:
    """The database of a store, and whom to tell what was written."""

    def __init__(self, database: Database, ring: Ring) -> None:
        self._database = database
        self._ring = ring
        self._hint: Callable[[Topics], None] = lambda _: None
        """Rings here, and for nobody else."""
        self._batches: list[Batch[Any, Any]] = []

    def _batch(
        self,
        needs_of: Callable[[Sequence[Q]], Needs],
        judge: Callable[[Ledger, Q], A],
        *,
        reserved: bool = False,
        short: OneStatement[Q, A] | None = None,
    ) -> Batch[Q, A]:
        batch = Batch(self._database, self._ring, needs_of, judge, reserved=reserved, short=short)
        self._batches.append(batch)
        return batch

    async def _write(self, work: Callable[[Session, Topics], Awaitable[R]], *, lazy: bool = False) -> R:
        """Do this in a transaction; when it is committed, ring for the topics that it has added."""
        topics: Topics = set()

        def attempt() -> Awaitable[R]:
            topics.clear()
            return self._database.transact(lambda session: work(session, topics), lazy=lazy)

        try:
            result = await repeated(self._database.url, attempt)
        except Culprit as error:
            raise BackendError(f"{self._database.url} refuses a statement: {error}") from error
        if topics:
            self._ring(topics, set())
        return result

    async def _alone(self, work: Callable[[Session], Awaitable[R]]) -> R:
        """Do this, which is one statement, as a transaction of its own. See `Database.one_statement`."""
        try:
            return await repeated(self._database.url, lambda: self._database.alone(work))
        except Culprit as error:
            raise BackendError(f"{self._database.url} refuses a statement: {error}") from error

    async def _read(self, work: Callable[[Session], Awaitable[R]]) -> R:
        """Look at what was committed so far."""
        try:
            return await repeated(self._database.url, lambda: self._database.read(work))
        except Culprit as error:
            raise BackendError(f"{self._database.url} refuses a query: {error}") from error


class Batch(Generic[Q, A]):
    """One kind of batch: `ask` locks, judges and writes items; what somebody else holds is answered `Busy`."""

    def __init__(
        self,
        database: Database,
        ring: Ring,
        needs_of: Callable[[Sequence[Q]], Needs],
        judge: Callable[[Ledger, Q], A],
        *,
        reserved: bool = False,
        short: OneStatement[Q, A] | None = None,
    ) -> None:
        self._database = database
        self._ring = ring
        self._needs_of = needs_of
        self._judge = judge
        self._reserved = reserved
        self._short = short if database.one_statement else None
        self._gathering: Gathering[Q, A] = Gathering(self._answer)

    async def ask(self, items: Sequence[Q]) -> Answer[A]:
        """Judge items one after the other, and write what was accepted."""
        return await self._gathering.ask(items)

    async def idle(self) -> None:
        """Wait for what is under way."""
        await self._gathering.idle()

    async def _answer(self, items: Sequence[Q]) -> Answer[A]:
        """All of them, in one transaction or in one for each part."""
        if self._short is not None and items:
            return await self._answer_shortly(items, self._short)
        if not self._database.group_by_part or len(items) <= 1:
            return await self._answer_together(items)
        now_us, found = 0, dict[int, A]()
        for group in self._groups(items):
            answer = await self._answer_together([items[n] for n in group])
            now_us = answer.now_us
            for n, verdict in zip(group, answer.items, strict=True):
                found[n] = verdict
        return Answer(now_us=now_us, items=[found[n] for n in range(len(items))])

    async def _answer_shortly(self, items: Sequence[Q], short: OneStatement[Q, A]) -> Answer[A]:
        """What is plain by one statement; what is not, or was not as it should be, in a transaction after that."""
        plain = short.plain(items, self._needs_of)
        now_us, done = await self._in_one_statement(plain, short)
        verdicts: dict[int, A] = {}
        topics, ended = Topics(), set[str]()
        for n, row in plain.items():
            if row[1] in done:
                verdicts[n] = short.verdict(items[n])
                short.tell(items[n], topics, ended)
        if topics:
            self._ring(topics, ended)
        if left := [n for n in range(len(items)) if n not in verdicts]:
            answer = await self._answer_together([items[n] for n in left])
            now_us = answer.now_us
            verdicts.update(zip(left, answer.items, strict=True))
        return Answer(now_us=now_us, items=[verdicts[n] for n in range(len(items))])

    async def _in_one_statement(
        self, plain: Mapping[int, Row], short: OneStatement[Q, A]
    ) -> tuple[int, set[str]]:
        """The time, and the instances that it was done for; none if the server refuses what one of them carries."""
        if not plain:
            return 0, set()
        rows_to_write = sorted(plain.values(), key=itemgetter(0, 1))
        sql, wanted = short.sql_of(rows_to_write), Wanted(short.columns, rows_to_write)
        try:
            rows = await repeated(
                self._database.url,
                lambda: self._database.alone(lambda session: session.fetch_wanted(sql, wanted)),
            )
        except Culprit:
            return 0, set()
        return (rows[0][0] if rows else 0), {name for _, name in rows}

    def _groups(self, items: Sequence[Q]) -> list[list[int]]:
        """Indexes of items that go together. What is about one part alone may overtake what is about others; an item
        that is about several stands alone in its place.
        """
        done: list[list[int]] = []
        of_part: dict[int, list[int]] = {}
        for n, item in enumerate(items):
            if (its_part := self._part_of(item)) is not None:
                of_part.setdefault(its_part, []).append(n)
            else:
                done += [*of_part.values(), [n]]
                of_part = {}
        return [*done, *of_part.values()]

    def _part_of(self, item: Q) -> int | None:
        """``None`` if there may be several: the parent of a run that ends is not known here."""
        try:
            needs = self._needs_of([item])
            names = {*needs.instances, *(key.instance_id for key in needs.activities)}
            parts = {part(name) for name in names}
        except ValueError:  # a lone surrogate: for the judging to refuse
            return None
        return None if needs.ending or len(parts) != 1 else parts.pop()

    async def _answer_together(self, items: Sequence[Q]) -> Answer[A]:
        """Halves the batch when the server refuses it, until the item that it cannot keep stands alone."""
        try:
            judged = await repeated(self._database.url, lambda: self._transact(items))
        except Culprit as error:
            if len(items) == 1:
                now = await self._database.read(lambda session: session.fetch("SELECT @now"))
                return Answer(now_us=now[0][0], items=[Refused(reason=str(error))])  # type: ignore[list-item]
            middle = len(items) // 2
            halves = [await self._answer_together(half) for half in (items[:middle], items[middle:])]
            return Answer(now_us=halves[-1].now_us, items=[one for half in halves for one in half.items])
        if judged.topics:
            self._ring(judged.topics, judged.ended)
        return Answer(now_us=judged.now_us, items=judged.verdicts)

    async def _transact(self, items: Sequence[Q]) -> Judged[A]:
        return await self._database.transact(
            lambda session: judge_all(session, items, self._needs_of, self._judge, last=True),
            reserved=self._reserved,
        )


class Judged(Generic[A]):
    """What came of a batch."""

    __slots__ = ("ended", "now_us", "topics", "verdicts")

    def __init__(self, ledger: Ledger, verdicts: list[A]) -> None:
        self.now_us = ledger.now_us
        self.topics = ledger.topics
        self.ended = ledger.ended
        self.verdicts = verdicts


async def judge_all(
    session: Session,
    items: Sequence[Q],
    needs_of: Callable[[Sequence[Q]], Needs],
    judge: Callable[[Ledger, Q], A],
    *,
    last: bool = False,
) -> Judged[A]:
    """Lock and read, judge, write. ``last``: the transaction ends with this."""
    try:
        loaded = await load(session, items, needs_of)
        ledger = loaded.ledger
        verdicts: list[A] = [Busy()] * len(items)  # type: ignore[list-item]  # part of every verdict that can come here
        for n in loaded.live:
            verdicts[n] = judge(ledger, items[n])
    except (ValueError, OverflowError) as error:  # a lone surrogate, above all
        raise Culprit(" ".join(f"{type(error).__name__}: {error}".split())) from error
    await save(session, ledger, last=last)
    return Judged(ledger, verdicts)
