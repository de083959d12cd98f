"""Each planted bug of the worker is caught by the workflow law named beside it, and the healthy worker keeps it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from durable.backends.contract import Backend
from durable.backends.memory import open_store
from durable.errors import NonDeterminismError
from durable.testing.conformance import ManualClock, StoreUnderTest, WorkflowLaws, programs, stage
from tests.conformance.mutants import workers

PATIENCE_SECONDS = 3.0
"""Under the mutants and under the healthy worker alike; less than they take to wait for a lease of 15 s."""
Plant = Callable[[pytest.MonkeyPatch], None]
LAWS: list[tuple[Plant, Callable[..., Any]]] = [
    (workers.m13_notify_without_poll, WorkflowLaws.test_a_worker_that_never_hears_the_bell_polls),
    (workers.m14_blind_retry_of_an_unknown_commit, WorkflowLaws.test_every_reply_is_lost),
    (
        workers.m16_due_compared_in_whole_seconds,
        WorkflowLaws.test_what_happens_meanwhile_fires_no_timer_before_its_time,
    ),
    (
        workers.m17_cache_kept_after_a_conflict,
        WorkflowLaws.test_a_worker_that_was_cut_off_is_replaced_and_its_late_word_counts_for_nothing,
    ),
    (
        workers.m18_commands_in_the_order_of_a_set,
        WorkflowLaws.test_activities_side_by_side_gathered_in_a_group_and_in_a_set,
    ),
    (
        workers.m19_recovery_at_launch_only,
        WorkflowLaws.test_a_worker_that_was_cut_off_is_replaced_and_its_late_word_counts_for_nothing,
    ),
    (
        workers.m20_sweeper_swallows_an_error_and_goes_on,
        WorkflowLaws.test_children_are_closed_although_the_store_fails_at_first,
    ),
]


class Memory(StoreUnderTest):
    def __init__(self) -> None:
        self.clock = ManualClock()

    async def open(self) -> Backend:
        return await open_store("memory://", clock=self.clock)


async def judge(law: Callable[..., Any]) -> None:
    set_up = stage.Stage(Memory())
    try:
        await set_up.connect()
        await law(WorkflowLaws(), set_up)
        await set_up.check()
    finally:
        programs.forget()
        await set_up.close()


@pytest.mark.parametrize(("plant", "law"), LAWS, ids=lambda each: getattr(each, "__name__", ""))
async def test_a_planted_bug_is_caught_by_the_law_named_for_it(
    plant: Plant, law: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage, "PATIENCE_SECONDS", PATIENCE_SECONDS)
    plant(monkeypatch)
    with pytest.raises((AssertionError, TimeoutError, NonDeterminismError)):
        await judge(law)


@pytest.mark.parametrize("law", sorted({law for _, law in LAWS}, key=lambda law: law.__name__))
async def test_the_healthy_worker_keeps_the_law_as_fast(
    law: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage, "PATIENCE_SECONDS", PATIENCE_SECONDS)
    await judge(law)


def test_every_bug_that_was_planted_is_in_the_list() -> None:
    planted = {value for name, value in vars(workers).items() if name.startswith("m") and name[1:3].isdigit()}
    assert planted == {plant for plant, _ in LAWS}
