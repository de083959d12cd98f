"""What all groups of workflow laws share: a stage for each law, and a look at what it leaves."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from durable.testing.conformance import programs
from durable.testing.conformance.harness import StoreUnderTest
from durable.testing.conformance.stage import Stage


class CarriesWorkflows:
    """A group of laws with a real worker. Its subclasses are collected where their name begins with ``Test``."""

    pytestmark = pytest.mark.asyncio

    @pytest.fixture
    def under_test(self) -> StoreUnderTest:
        """The store that is judged: override this."""
        raise NotImplementedError(
            f"{type(self).__name__} has to say with a fixture `under_test` which store it judges"
        )

    @pytest.fixture(params=[True, False], ids=["rowless", "rows"])
    def local_activities(self, request: pytest.FixtureRequest) -> bool:
        """Whether short activities go without a row: each law is to hold both ways."""
        return bool(request.param)

    @pytest_asyncio.fixture
    async def stage(self, under_test: StoreUnderTest, local_activities: bool) -> AsyncIterator[Stage]:
        """The store with one client. Afterwards its audit is clean and every history replays."""
        stage = Stage(under_test, local_activities=local_activities)
        try:
            await stage.connect()
            yield stage
            await stage.check()
        finally:
            programs.forget()
            await stage.close()
