"""Mutants that get batches, repetitions and rollbacks wrong: 14, 22, 23, 24."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from durable.backends.contract import Backend
from durable.backends.records import Checkpoint, NewInstance, NewMessage, Refused
from durable.errors import BackendError
from tests.conformance.mutants.layer import Layer


class M14RepeatedSendIsSentAgain(Layer):
    """The store's part of a blind retry: it does not remember the keys of what was sent."""

    count = 0

    async def send(self, messages: Sequence[NewMessage]) -> Any:
        self.count += 1
        return await self.store.send([replace(one, key=f"{one.key}/{self.count}") for one in messages])


class M22CancelledConnectionBackToThePool(Layer):
    """The reply that a cancelled caller did not take is the next caller's."""

    def __init__(self, store: Backend) -> None:
        super().__init__(store)
        self.left_over: list[Any] = []

    async def create(self, instances: Sequence[NewInstance]) -> Any:
        if self.left_over:
            return self.left_over.pop()
        answer = await self.store.create(instances)
        try:
            await asyncio.sleep(0.001)
        except asyncio.CancelledError:
            self.left_over.append(answer)
            raise
        return answer


class M23PoisonRowAbortsTheBatch(Layer):
    """One run that cannot be handed out, or taken in, and nobody gets anything."""

    async def create(self, instances: Sequence[NewInstance]) -> Any:
        return self.whole(await self.store.create(instances))

    async def claim_workflow_tasks(self, claimant: Any, limit: int) -> Any:
        before = await self.store.stats()
        answer = await self.store.claim_workflow_tasks(claimant, limit)
        if (await self.store.stats()).instances.get("stalled", 0) > before.instances.get("stalled", 0):
            raise BackendError("a run of the batch is poisoned")
        return answer

    def whole(self, answer: Any) -> Any:
        if any(isinstance(item, Refused) for item in answer.items):
            raise BackendError("an item of the batch is poisoned")
        return answer


class M24StatementRollbackTakenForTransactionRollback(Layer):
    """What was written before the statement that failed stays."""

    async def commit(self, checkpoints: Sequence[Checkpoint]) -> Any:
        answer = await self.store.commit(checkpoints)
        for one, verdict in zip(checkpoints, answer.items, strict=True):
            if isinstance(verdict, Refused):
                await self.store.send([send.message for send in one.sends])
        return answer
