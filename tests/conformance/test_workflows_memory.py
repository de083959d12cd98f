"""The memory store carries workflows."""

from __future__ import annotations

import pytest

from durable.backends.contract import Backend
from durable.backends.memory import MemoryStore, open_store
from durable.testing.conformance import ManualClock, StoreUnderTest, WorkflowLaws
from tests.conformance.wounds import MEMORY


class Memory(StoreUnderTest):
    damages = frozenset(MEMORY)

    def __init__(self) -> None:
        self.clock = ManualClock()

    async def open(self) -> Backend:
        return await open_store("memory://", clock=self.clock)

    async def damage(self, store: Backend, kind: str, instance_id: str) -> None:
        assert isinstance(store, MemoryStore)
        MEMORY[kind](store._tables, store._tables.instances[instance_id].current)


class TestMemoryCarriesWorkflows(WorkflowLaws):
    @pytest.fixture
    def under_test(self) -> Memory:
        return Memory()
