"""The SQLite store's `WorkerStore`."""

from __future__ import annotations

from collections.abc import Sequence

from durable.backends.records import (
    Accepted,
    ActivityLease,
    ActivityOutcome,
    ActivityTask,
    Answer,
    AskedTask,
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
from durable.backends.sql.attempts import (
    judge_activity_extension,
    judge_activity_release,
    judge_outcome,
)
from durable.backends.sql.changes import judge_extension, judge_release
from durable.backends.sql.checkpoints import judge_checkpoint
from durable.backends.sql.ledger import Ledger, RunKey
from durable.backends.sqlite import questions
from durable.backends.sqlite.activity_claims import ActivityClaims
from durable.backends.sqlite.calls import Calls
from durable.backends.sqlite.crews import Transaction
from durable.backends.sqlite.lane import Lane
from durable.backends.sqlite.reading import read_events
from durable.backends.sqlite.run_claims import RunClaims, close_done


class WorkerCalls(Calls):
    """See `durable.backends.contract.WorkerStore`."""

    def __init__(self, writer: Lane, reader: Lane) -> None:
        super().__init__(writer, reader)
        self._run_claims = RunClaims()
        self._activity_claims = ActivityClaims()
        self._question_claims = questions.QuestionClaims()

    async def claim_workflow_tasks(
        self, claimant: Claimant, limit: int
    ) -> Answer[WorkflowTask | Overdue | Closing]:
        """See the contract."""

        def work(tx: Transaction) -> Answer[WorkflowTask | Overdue | Closing]:
            items, next_us = self._run_claims.claim(tx, claimant, limit)
            return Answer(now_us=tx.now_us, items=items, next_wake_us=next_us)

        return await self._write(work, durable=False)

    async def claim_stalled_tasks(
        self, claimant: Claimant, limit: int, *, at_start: bool
    ) -> Answer[WorkflowTask]:
        """See the contract."""

        def work(tx: Transaction) -> Answer[WorkflowTask]:
            items, next_us = self._run_claims.claim_stalled(tx, claimant, limit, at_start=at_start)
            return Answer(now_us=tx.now_us, items=items, next_wake_us=next_us)

        return await self._write(work, durable=False)

    async def claim_activity_tasks(self, claimant: Claimant, limit: int) -> Answer[ActivityTask]:
        """See the contract."""

        def work(tx: Transaction) -> Answer[ActivityTask]:
            items, next_us = self._activity_claims.claim(tx, claimant, limit)
            return Answer(now_us=tx.now_us, items=items, next_wake_us=next_us)

        return await self._write(work)

    async def read_history(self, ranges: Sequence[HistoryRange]) -> Answer[HistorySlice]:
        """See the contract. What is behind a broken row is not given: the head's number tells that some is missing."""
        asked = tuple(ranges)
        return await self._read(
            lambda tx: Answer(now_us=tx.now_us, items=[_slice(tx, wanted) for wanted in asked])
        )

    async def commit(self, checkpoints: Sequence[Checkpoint]) -> Answer[Verdict]:
        """See the contract."""
        return await self._judged(checkpoints, needs.of_checkpoints, judge_checkpoint)

    async def finish_activities(self, outcomes: Sequence[ActivityOutcome]) -> Answer[Verdict]:
        """See the contract."""

        def judge(ledger: Ledger, outcome: ActivityOutcome) -> Verdict:
            return judge_outcome(ledger, outcome)

        return await self._judged(outcomes, needs.of_outcomes, judge)

    async def extend(self, leases: Sequence[Lease]) -> Answer[Extended | Cancelled | Lost]:
        """See the contract."""
        return await self._judged(leases, needs.of_leases, _extend)

    async def release(self, leases: Sequence[Lease]) -> Answer[Accepted | Lost]:
        """See the contract."""
        return await self._judged(leases, needs.of_leases, _release)

    async def close_done(self, closings: Sequence[Closing]) -> Answer[Accepted]:
        """See the contract."""
        parents = [RunKey(closing.instance_id, closing.run_id) for closing in closings]

        def work(tx: Transaction) -> Answer[Accepted]:
            for parent in parents:
                close_done(tx, parent)
            return Answer(now_us=tx.now_us, items=[Accepted() for _ in parents])

        return await self._write(work)

    async def claim_questions(self, claimant: Claimant, limit: int) -> Answer[AskedTask]:
        """See the contract."""

        def work(tx: Transaction) -> Answer[AskedTask]:
            items, next_us = self._question_claims.claim(tx, claimant, limit)
            return Answer(now_us=tx.now_us, items=items, next_wake_us=next_us)

        return await self._write(work, durable=False)

    async def answer(self, replies: Sequence[Reply]) -> Answer[Accepted | Lost]:
        """See the contract."""
        asked = tuple(replies)
        return await self._write(
            lambda tx: Answer(now_us=tx.now_us, items=[questions.answer(tx, reply) for reply in asked])
        )


def _extend(ledger: Ledger, lease: Lease) -> Extended | Cancelled | Lost:
    if isinstance(lease, ActivityLease):
        return judge_activity_extension(ledger, lease)
    return judge_extension(ledger, lease)


def _release(ledger: Ledger, lease: Lease) -> Accepted | Lost:
    if isinstance(lease, ActivityLease):
        return judge_activity_release(ledger, lease)
    return judge_release(ledger, lease)


def _slice(tx: Transaction, wanted: HistoryRange) -> HistorySlice:
    events = read_events(tx.db, RunKey(wanted.instance_id, wanted.run_id), max(0, wanted.after))
    return HistorySlice(
        instance_id=wanted.instance_id, run_id=wanted.run_id, after=wanted.after, events=events
    )
