"""The memory store keeps the laws of the contract."""

from __future__ import annotations

from pathlib import Path

import pytest

from durable.backends.contract import Backend
from durable.backends.memory import open_store
from durable.testing.conformance import ManualClock, RandomOperations, StoreLaws, StoreUnderTest


class Memory(StoreUnderTest):
    def __init__(self) -> None:
        self.clock = ManualClock()

    async def open(self) -> Backend:
        return await open_store("memory://", clock=self.clock)


class TestMemory(StoreLaws):
    @pytest.fixture
    def under_test(self) -> Memory:
        return Memory()


class TestMemoryAgainstItself(RandomOperations):
    """It answers twice alike, and its audit stays empty."""

    def make(self, folder: Path) -> Memory:
        return Memory()
