"""Mutants whose outbox is not part of the checkpoint, or is read with a cursor: 6, 7."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from durable.backends.contract import Backend
from durable.backends.records import Checkpoint, OutboxEvent
from tests.conformance.mutants.layer import Layer, with_items


class M06OutboxInASecondTransaction(Layer):
    """The events are written whatever becomes of the checkpoint."""

    def __init__(self, store: Backend) -> None:
        super().__init__(store)
        self.events: list[OutboxEvent] = []

    async def commit(self, checkpoints: Sequence[Checkpoint]) -> Any:
        self.events += [event for one in checkpoints for event in one.outbox]
        return await self.store.commit([replace(one, outbox=()) for one in checkpoints])

    async def claim_outbox(self, claimant: Any, limit: int) -> Any:
        answer = await self.store.claim_outbox(claimant, limit)
        return with_items(answer, self.events[:limit])


class M07OutboxCursorByGreatestId(Layer):
    seen = ""

    async def claim_outbox(self, claimant: Any, limit: int) -> Any:
        answer = await self.store.claim_outbox(claimant, limit)
        events = [event for event in answer.items if event.id > self.seen]
        self.seen = max([self.seen, *(event.id for event in events)])
        return with_items(answer, events)
