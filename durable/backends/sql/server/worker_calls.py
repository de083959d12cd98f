"""The `WorkerStore` of a store on a server."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence

from durable.backends.records import (
    Accepted,
    ActivityLease,
    ActivityOutcome,
    ActivityTask,
    Answer,
    AskedTask,
    Busy,
    Cancelled,
    Checkpoint,
    Claimant,
    Closing,
    Extended,
    HistoryRange,
    HistorySlice,
    Lease,
    Lost,
    Overdue,
    Reply,
    Verdict,
    WorkflowTask,
)
from durable.backends.sql import needs
from durable.backends.sql.attempts import judge_activity_extension, judge_activity_release, judge_outcome
from durable.backends.sql.changes import judge_extension, judge_release
from durable.backends.sql.checkpoints import judge_checkpoint
from durable.backends.sql.ledger import Ledger, RunKey
from durable.backends.sql.server import questions
from durable.backends.sql.server.activity_claims import ActivityClaims, look_for_activities
from durable.backends.sql.server.judging import Calls
from durable.backends.sql.server.loading import load
from durable.backends.sql.server.one_statement import CHECKPOINTS
from durable.backends.sql.server.reading import Wish, read_events
from durable.backends.sql.server.run_claims import (
    RunClaims,
    close_done,
    look_for_runs,
    look_for_stalled,
)
from durable.backends.sql.server.session import Database, Ring, Session, Topics

BUSY_ROUNDS = 40
BUSY_SECONDS = 0.01


class WorkerCalls(Calls):
    """See `durable.backends.contract.WorkerStore`."""

    def __init__(self, database: Database, ring: Ring) -> None:
        super().__init__(database, ring)
        self._run_claims = RunClaims()
        self._activity_claims = ActivityClaims()
        self._question_claims = questions.QuestionClaims()
        self._checkpoints = self._batch(needs.of_checkpoints, judge_checkpoint, short=CHECKPOINTS)
        self._outcomes = self._batch(needs.of_outcomes, finish)
        self._extensions = self._batch(needs.of_leases, _extend, reserved=True)
        self._releases = self._batch(needs.of_leases, _release)

    # --- runs

    async def claim_workflow_tasks(
        self, claimant: Claimant, limit: int
    ) -> Answer[WorkflowTask | Overdue | Closing]:
        """See the contract."""
        look = await self._read(lambda session: look_for_runs(session, claimant, max(0, limit)))
        self._hint(look.others)
        had: list[WorkflowTask] = []
        items: list[WorkflowTask | Overdue | Closing] = []
        again = self._run_claims.again(claimant, stalled=False)
        order = {name: n for n, name in enumerate(look.ready)} if look.plain else {}
        if look.plain and self._database.one_statement and not again and limit > 0:
            found = look
            had, look = await self._alone(
                lambda session: self._run_claims.claim_plain(session, claimant, limit, found)
            )
        left = look
        if again or (not look.nothing and len(had) < limit):

            async def work(session: Session, _: Topics) -> None:
                nonlocal left
                room = max(0, limit) - len(had)
                items[:], left = await self._run_claims.claim(session, claimant, room, look, had)

            await self._write(work, lazy=True)
        if had and items:
            items = sorted([*had, *items], key=lambda one: order.get(one.instance_id, -1))
        return Answer(now_us=left.now_us, items=items or had, next_wake_us=left.next_us)

    async def claim_stalled_tasks(
        self, claimant: Claimant, limit: int, *, at_start: bool
    ) -> Answer[WorkflowTask]:
        """See the contract."""
        look = await self._read(
            lambda session: look_for_stalled(session, claimant, max(0, limit), at_start=at_start)
        )
        items: list[WorkflowTask] = []
        left = look
        if not look.nothing or self._run_claims.again(claimant, stalled=True):

            async def work(session: Session, _: Topics) -> None:
                nonlocal left
                items[:], left = await self._run_claims.claim_stalled(
                    session, claimant, max(0, limit), look, at_start=at_start
                )

            await self._write(work, lazy=True)
        return Answer(now_us=left.now_us, items=items, next_wake_us=None if at_start else left.next_us)

    async def read_history(self, ranges: Sequence[HistoryRange]) -> Answer[HistorySlice]:
        """See the contract. What is behind a broken row is not given: the head's number tells that some is missing."""
        wishes = [Wish(one.instance_id, one.run_id, max(0, one.after)) for one in ranges]

        async def work(session: Session) -> Answer[HistorySlice]:
            now_us, events = await read_events(session, wishes)
            now_us = now_us or (await session.fetch("SELECT @now"))[0][0]
            slices = [
                HistorySlice(
                    instance_id=one.instance_id, run_id=one.run_id, after=one.after, events=events[wish]
                )
                for one, wish in zip(ranges, wishes, strict=True)
            ]
            return Answer(now_us=now_us, items=slices)

        return await self._read(work)

    async def commit(self, checkpoints: Sequence[Checkpoint]) -> Answer[Verdict]:
        """See the contract."""
        return await self._checkpoints.ask(checkpoints)

    async def close_done(self, closings: Sequence[Closing]) -> Answer[Accepted]:
        """See the contract."""
        parents = [RunKey(closing.instance_id, closing.run_id) for closing in closings]

        async def work(session: Session, topics: Topics) -> Answer[Accepted]:
            now_us = (await session.fetch("SELECT @now"))[0][0]
            if await close_done(session, parents):
                topics.add("workflow")
            return Answer(now_us=now_us, items=[Accepted() for _ in parents])

        return await self._write(work)

    # --- activities

    async def claim_activity_tasks(self, claimant: Claimant, limit: int) -> Answer[ActivityTask]:
        """See the contract."""
        look = await self._read(lambda session: look_for_activities(session, claimant, max(0, limit)))
        items: list[ActivityTask] = []
        left = look
        if look.due or self._activity_claims.again(claimant):

            async def work(session: Session, _: Topics) -> None:
                nonlocal left
                items[:], left = await self._activity_claims.claim(session, claimant, max(0, limit), look)

            await self._write(work)
        return Answer(now_us=left.now_us, items=items, next_wake_us=left.next_us)

    async def finish_activities(self, outcomes: Sequence[ActivityOutcome]) -> Answer[Verdict]:
        """See the contract."""
        return await self._outcomes.ask(outcomes)

    # --- leases

    async def extend(self, leases: Sequence[Lease]) -> Answer[Extended | Cancelled | Lost]:
        """See the contract. A row that is held for long (a caller's transaction) is judged as it was before it was.

        Nobody else can claim it while it is held; that its lease is not written matters only if the holder stays.
        """
        verdicts: dict[int, Extended | Cancelled | Lost] = {}
        left = list(range(len(leases)))
        now_us = 0
        for _ in range(BUSY_ROUNDS):
            answer = await self._extensions.ask([leases[n] for n in left])
            now_us = answer.now_us
            verdicts |= {
                n: item for n, item in zip(left, answer.items, strict=True) if not isinstance(item, Busy)
            }
            left = [n for n in left if n not in verdicts]
            if not left:
                break
            await asyncio.sleep(BUSY_SECONDS * random.uniform(0.5, 1.0))
        if left:
            verdicts |= dict(zip(left, await self._as_it_was([leases[n] for n in left]), strict=True))
        return Answer(now_us=now_us, items=[verdicts[n] for n in range(len(leases))])

    async def release(self, leases: Sequence[Lease]) -> Answer[Accepted | Lost | Busy]:
        """See the contract. What somebody else holds is `Busy`.

        No error: all the others would be given back once more with it, and one may have been claimed again meanwhile.
        """
        return await self._releases.ask(leases)

    async def _as_it_was(self, leases: Sequence[Lease]) -> list[Extended | Cancelled | Lost]:
        async def work(session: Session) -> list[Extended | Cancelled | Lost]:
            loaded = await load(session, leases, needs.of_leases, locks=False)
            return [_extend_now(loaded.ledger, lease) for lease in leases]

        return await self._read(work)

    # --- questions

    async def claim_questions(self, claimant: Claimant, limit: int) -> Answer[AskedTask]:
        """See the contract."""
        look = await self._read(questions.look_for_questions)
        items: list[AskedTask] = []
        if look.due or self._question_claims.again(claimant):

            async def work(session: Session, _: Topics) -> None:
                items[:] = await self._question_claims.claim(session, claimant, max(0, limit), look)

            await self._write(work, lazy=True)
        return Answer(now_us=look.now_us, items=items, next_wake_us=look.next_us)

    async def answer(self, replies: Sequence[Reply]) -> Answer[Accepted | Lost]:
        """See the contract."""

        async def work(session: Session, topics: Topics) -> Answer[Accepted | Lost]:
            now_us = (await session.fetch("SELECT @now"))[0][0]
            return Answer(now_us=now_us, items=await questions.answer(session, replies, topics))

        return await self._write(work)


def finish(ledger: Ledger, outcome: ActivityOutcome) -> Verdict:
    """Judge what came of an attempt."""
    return judge_outcome(ledger, outcome)


def _extend_now(ledger: Ledger, lease: Lease) -> Extended | Cancelled | Lost:
    if isinstance(lease, ActivityLease):
        return judge_activity_extension(ledger, lease)
    return judge_extension(ledger, lease)


def _extend(ledger: Ledger, lease: Lease) -> Extended | Cancelled | Lost | Busy:
    return _extend_now(ledger, lease)


def _release(ledger: Ledger, lease: Lease) -> Accepted | Lost | Busy:
    if isinstance(lease, ActivityLease):
        return judge_activity_release(ledger, lease)
    return judge_release(ledger, lease)
