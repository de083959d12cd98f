"""The memory store carries workflows."""

from __future__ import annotations

import pytest

from durable.backends.contract import Backend
from durable.backends.memory import open_store
from durable.testing.conformance import ManualClock, StoreUnderTest, WorkflowLaws


class Memory(StoreUnderTest):
    def __init__(self) -> None:
        self.clock = ManualClock()

    async def open(self) -> Backend:
        return await open_store("memory://", clock=self.clock)


class TestMemoryCarriesWorkflows(WorkflowLaws):
    @pytest.fixture
    def under_test(self) -> Memory:
        return Memory()
