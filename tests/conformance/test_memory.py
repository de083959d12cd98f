"""The memory store keeps the laws of the contract."""

from __future__ import annotations

from pathlib import Path

import pytest

from durable.backends.contract import Backend
from durable.backends.memory import MemoryStore, open_store
from durable.testing.conformance import ManualClock, RandomOperations, StoreLaws, StoreUnderTest
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


class TestMemory(StoreLaws):
    @pytest.fixture
    def under_test(self) -> Memory:
        return Memory()


class TestMemoryAgainstItself(RandomOperations):
    """It answers twice alike, and its audit stays empty."""

    def make(self, folder: Path) -> Memory:
        return Memory()
