"""What all groups of laws share: each law gets a bench with an empty store, and leaves a store with a clean audit."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from durable.testing.conformance.bench import Bench
from durable.testing.conformance.harness import StoreUnderTest


class Laws:
    """A group of laws. Its subclasses are collected by pytest where their name begins with ``Test``."""

    pytestmark = pytest.mark.asyncio

    @pytest.fixture
    def under_test(self) -> StoreUnderTest:
        """The store that is judged: override this."""
        raise NotImplementedError(
            f"{type(self).__name__} has to say with a fixture `under_test` which store it judges"
        )

    @pytest_asyncio.fixture
    async def bench(self, under_test: StoreUnderTest) -> AsyncIterator[Bench]:
        """The store, opened and empty."""
        bench = Bench(await under_test.open(), under_test)
        try:
            await bench.store.migrate()
            yield bench
            assert bench.is_damaged or await bench.broken() == []
        finally:
            await bench.store.close()
