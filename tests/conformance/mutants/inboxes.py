"""Mutants that lose messages: 8, 9, 10, 11, 12."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from durable.backends.contract import Backend
from durable.backends.records import (
    Accepted,
    Answer,
    Checkpoint,
    Claimant,
    InstanceRef,
    NewMessage,
    WorkflowLease,
    WorkflowTask,
)
from tests.conformance.mutants.layer import Layer, with_items


class M08SignalAckedBeforeInsert(Layer):
    def __init__(self, store: Backend) -> None:
        super().__init__(store)
        self.late: list[NewMessage] = []

    async def send(self, messages: Sequence[NewMessage]) -> Any:
        await self.store.send(self.late)
        self.late = list(messages)
        now_us = (await self.store.get([])).now_us
        return Answer(now_us=now_us, items=[Accepted() for _ in messages])


class M09OpenRunLookedUpApartFromTheSignalsWrite(Layer):
    async def send(self, messages: Sequence[NewMessage]) -> Any:
        views = (await self.store.get([InstanceRef(instance_id=one.instance_id) for one in messages])).items
        await asyncio.sleep(0.001)
        found = zip(messages, views, strict=True)
        return await self.store.send(
            [
                replace(one, run_id=one.run_id or view.run_id) if view is not None else one
                for one, view in found
            ]
        )


class M10ContinueAsNewDropsBufferedSignals(Layer):
    def __init__(self, store: Backend) -> None:
        super().__init__(store)
        self.unread: dict[str, set[int]] = {}

    async def send(self, messages: Sequence[NewMessage]) -> Any:
        for one in messages:
            numbers = self.unread.setdefault(one.instance_id, set())
            numbers.add(len(numbers) + 1)
        return await self.store.send(messages)

    async def commit(self, checkpoints: Sequence[Checkpoint]) -> Any:
        return await self.store.commit([self.dropping(one) for one in checkpoints])

    def dropping(self, checkpoint: Checkpoint) -> Checkpoint:
        if checkpoint.next_run is None:
            return checkpoint
        return replace(checkpoint, consumed=tuple(self.unread.get(checkpoint.instance_id, ())))


class M11CloseIgnoresUnreadSignals(Layer):
    async def commit(self, checkpoints: Sequence[Checkpoint]) -> Any:
        return await self.store.commit(
            [replace(one, seen=2**31) if one.close is not None else one for one in checkpoints]
        )


class M12WakeUpFlagClearedAfterTheRead(Layer):
    """A commit takes the wake-up away, also that of a message which came after the claim."""

    def __init__(self, store: Backend) -> None:
        super().__init__(store)
        self.asleep: set[str] = set()

    async def commit(self, checkpoints: Sequence[Checkpoint]) -> Any:
        answer = await self.store.commit(checkpoints)
        for one, verdict in zip(checkpoints, answer.items, strict=True):
            if verdict == Accepted(unread=True):
                self.asleep.add(one.instance_id)
        return answer

    async def send(self, messages: Sequence[NewMessage]) -> Any:
        self.asleep -= {one.instance_id for one in messages}
        return await self.store.send(messages)

    async def claim_workflow_tasks(self, claimant: Claimant, limit: int) -> Any:
        answer = await self.store.claim_workflow_tasks(claimant, limit)
        kept = [item for item in answer.items if item.instance_id not in self.asleep]
        left = [item for item in answer.items if item not in kept and isinstance(item, WorkflowTask)]
        await self.store.release(
            [
                WorkflowLease(instance_id=task.instance_id, run_id=task.run_id, worker_id=claimant.worker_id)
                for task in left
            ]
        )
        return with_items(answer, kept)
