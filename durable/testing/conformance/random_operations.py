"""Tier 3: sequences of calls that nobody thought of, answered by the memory store and the store that is judged.

Hypothesis makes the sequences up and shortens those that fail. Runs, workers, keys are few, so that calls meet. By
default it tries the same hundred sequences each time; with a Hypothesis profile of more examples it looks further.
"""

from __future__ import annotations

import itertools
import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from durable.testing.conformance.harness import StoreUnderTest
from durable.testing.conformance.store_machine import StoreMachine


class RandomOperations:
    """Inherit from it in a class ``Test...`` and say in `make` which store is judged."""

    examples = 150
    steps = 40

    def make(self, folder: Path) -> StoreUnderTest:
        """A new and empty store, which may keep its files in this folder."""
        raise NotImplementedError

    def place(self) -> str | None:
        """Where folders are made: in memory if there is such a place, for nothing here asks what a power cut leaves."""
        return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None

    def test_random_operations_are_answered_as_the_memory_store_answers_them(self) -> None:
        thorough = settings.default is not None and settings.default.max_examples > 100
        chosen = settings(
            max_examples=settings().max_examples if thorough else self.examples,
            stateful_step_count=self.steps,
            derandomize=not thorough,
            # To shorten a failure takes minutes: that is for whoever looks into it, with the longer profile.
            phases=tuple(Phase) if thorough else (Phase.generate,),
            report_multiple_bugs=False,
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        )
        with TemporaryDirectory(dir=self.place()) as folder:
            numbers = itertools.count()

            def machine() -> StoreMachine:
                place = Path(folder) / str(next(numbers))
                place.mkdir()
                return StoreMachine(self.make(place))

            # Typed for a class; any callable that makes a machine does.
            run_state_machine_as_test(cast(Any, machine), settings=chosen)
