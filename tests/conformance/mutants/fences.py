"""Mutants whose fences, leases or times are wrong: 1, 2, 3, 4, 5, 15, 16, 21."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from durable.backends.records import (
    Accepted,
    ActivityFinished,
    ActivityLease,
    Answer,
    Checkpoint,
    Head,
    Lost,
    NewMessage,
    WorkflowLease,
)
from tests.conformance.mutants.layer import Layer, with_items


class M01NoTokenCheckOnCommit(Layer):
    async def commit(self, checkpoints: Sequence[Checkpoint]) -> Any:
        return await self.store.commit([await self.on_the_current_head(one) for one in checkpoints])

    async def on_the_current_head(self, checkpoint: Checkpoint) -> Checkpoint:
        head = await self.head(checkpoint.instance_id, checkpoint.run_id)
        if head is None or head == checkpoint.new_head:
            return checkpoint
        new_head = replace(checkpoint.new_head, number=head.number + len(checkpoint.events))
        return replace(checkpoint, head=head, new_head=new_head)


class M02CheckOutsideTheTransaction(M01NoTokenCheckOnCommit):
    async def commit(self, checkpoints: Sequence[Checkpoint]) -> Any:
        right = [await self.head(one.instance_id, one.run_id) == one.head for one in checkpoints]
        await asyncio.sleep(0.001)
        passed = [
            await self.on_the_current_head(one) if ok else one
            for one, ok in zip(checkpoints, right, strict=True)
        ]
        return await self.store.commit(passed)


class M04HeartbeatWithoutToken(Layer):
    tokens: dict[Any, str]

    async def claim_activity_tasks(self, claimant: Any, limit: int) -> Any:
        answer = await self.store.claim_activity_tasks(claimant, limit)
        self.tokens = {**getattr(self, "tokens", {}), **{task.ref: task.token for task in answer.items}}
        return answer

    async def extend(self, leases: Sequence[Any]) -> Any:
        return await self.store.extend(
            [
                replace(lease, token=self.tokens.get(lease.ref, lease.token))
                if isinstance(lease, ActivityLease)
                else lease
                for lease in leases
            ]
        )


class M05CounterOnlyToken(Layer):
    async def create(self, instances: Sequence[Any]) -> Any:
        return await self.store.create([replace(one, head=self.counted(one.head)) for one in instances])

    async def commit(self, checkpoints: Sequence[Checkpoint]) -> Any:
        return await self.store.commit(
            [
                replace(one, head=self.counted(one.head), new_head=self.counted(one.new_head))
                for one in checkpoints
            ]
        )

    def counted(self, head: Head) -> Head:
        return Head(number=head.number, token=str(head.number))


class M15DuplicateActivityCompletionAccepted(Layer):
    async def finish_activities(self, outcomes: Sequence[Any]) -> Any:
        answer = await self.store.finish_activities(outcomes)
        pairs = zip(outcomes, answer.items, strict=True)
        return with_items(answer, [await self.accepted_anyway(*pair) for pair in pairs])

    async def accepted_anyway(self, outcome: Any, verdict: Any) -> Any:
        if verdict != Lost() or not isinstance(outcome, ActivityFinished):
            return verdict
        ref = outcome.ref
        again = NewMessage(
            instance_id=ref.instance_id,
            run_id=ref.run_id,
            key=outcome.body,
            kind=outcome.kind,
            body=outcome.body,
        )
        await self.store.send([again])
        return Accepted()


class M16DueComparedInWholeSeconds(Layer):
    async def commit(self, checkpoints: Sequence[Checkpoint]) -> Any:
        return await self.store.commit([self.rounded(one) for one in checkpoints])

    def rounded(self, checkpoint: Checkpoint) -> Checkpoint:
        seconds = {
            name: us // 1_000_000 * 1_000_000
            for name in ("wake_at_us", "fired_until_us")
            if (us := getattr(checkpoint, name)) is not None
        }
        return replace(checkpoint, **seconds)


class M21LeaseFreedByOneWhoDoesNotHoldIt(Layer):
    holders: dict[str, str]

    async def claim_workflow_tasks(self, claimant: Any, limit: int) -> Answer[Any]:
        answer = await self.store.claim_workflow_tasks(claimant, limit)
        self.holders = {item.run_id: claimant.worker_id for item in answer.items}
        return answer

    async def release(self, leases: Sequence[Any]) -> Any:
        return await self.store.release(
            [
                replace(lease, worker_id=self.holders.get(lease.run_id, lease.worker_id))
                if isinstance(lease, WorkflowLease)
                else lease
                for lease in leases
            ]
        )
