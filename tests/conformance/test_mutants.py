"""Each planted bug is caught by the law that is named beside it, and the healthy store keeps that law."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable
from typing import Any

import pytest

from durable.backends.contract import Backend
from durable.backends.memory import open_store
from durable.errors import BackendError
from durable.testing.conformance import ManualClock, StoreLaws, StoreUnderTest
from durable.testing.conformance.bench import Bench
from tests.conformance.mutants.batches import (
    M14RepeatedSendIsSentAgain,
    M22CancelledConnectionBackToThePool,
    M23PoisonRowAbortsTheBatch,
    M24StatementRollbackTakenForTransactionRollback,
)
from tests.conformance.mutants.fences import (
    M01NoTokenCheckOnCommit,
    M02CheckOutsideTheTransaction,
    M04HeartbeatWithoutToken,
    M05CounterOnlyToken,
    M15DuplicateActivityCompletionAccepted,
    M16DueComparedInWholeSeconds,
    M21LeaseFreedByOneWhoDoesNotHoldIt,
)
from tests.conformance.mutants.inboxes import (
    M08SignalAckedBeforeInsert,
    M09OpenRunLookedUpApartFromTheSignalsWrite,
    M10ContinueAsNewDropsBufferedSignals,
    M11CloseIgnoresUnreadSignals,
    M12WakeUpFlagClearedAfterTheRead,
)
from tests.conformance.mutants.layer import Layer
from tests.conformance.mutants.outboxes import M06OutboxInASecondTransaction, M07OutboxCursorByGreatestId


class M03ExpiryByTheWorkersClock(Layer):
    """The store was opened with the clock of the machine it was opened on."""


LAWS: list[tuple[type[Layer], Callable[..., Any]]] = [
    (M01NoTokenCheckOnCommit, StoreLaws.test_a_checkpoint_from_an_older_head_is_lost),
    (M02CheckOutsideTheTransaction, StoreLaws.test_of_two_to_eight_committers_at_once_exactly_one_wins),
    (M03ExpiryByTheWorkersClock, StoreLaws.test_a_lease_ends_on_its_microsecond),
    (M04HeartbeatWithoutToken, StoreLaws.test_a_heartbeat_without_the_right_token_is_lost),
    (M05CounterOnlyToken, StoreLaws.test_the_number_of_the_head_alone_is_not_enough),
    (M05CounterOnlyToken, StoreLaws.test_of_two_to_eight_committers_at_once_exactly_one_wins),
    (M06OutboxInASecondTransaction, StoreLaws.test_events_go_out_exactly_when_their_checkpoint_was_accepted),
    (M07OutboxCursorByGreatestId, StoreLaws.test_an_event_with_a_small_id_that_comes_late_is_not_skipped),
    (M08SignalAckedBeforeInsert, StoreLaws.test_an_accepted_message_is_there_at_once_as_it_was_sent),
    (
        M09OpenRunLookedUpApartFromTheSignalsWrite,
        StoreLaws.test_a_send_that_races_with_continue_as_new_arrives,
    ),
    (
        M10ContinueAsNewDropsBufferedSignals,
        StoreLaws.test_messages_that_were_not_consumed_move_along_in_order,
    ),
    (
        M11CloseIgnoresUnreadSignals,
        StoreLaws.test_closing_with_an_unseen_message_is_answered_with_that_message,
    ),
    (
        M12WakeUpFlagClearedAfterTheRead,
        StoreLaws.test_a_message_that_came_after_the_claim_keeps_the_run_ready,
    ),
    (M14RepeatedSendIsSentAgain, StoreLaws.test_a_whole_life_with_every_reply_lost),
    (M15DuplicateActivityCompletionAccepted, StoreLaws.test_a_second_result_of_the_same_attempt_is_lost),
    (
        M16DueComparedInWholeSeconds,
        StoreLaws.test_a_run_is_ready_when_its_timer_is_due_and_not_a_microsecond_before,
    ),
    (M16DueComparedInWholeSeconds, StoreLaws.test_a_timer_fired_ahead_of_the_stores_clock_is_too_early),
    (M21LeaseFreedByOneWhoDoesNotHoldIt, StoreLaws.test_only_the_holder_gives_back),
    (
        M22CancelledConnectionBackToThePool,
        StoreLaws.test_a_call_that_is_cancelled_is_done_or_not_and_harms_no_other,
    ),
    (M23PoisonRowAbortsTheBatch, StoreLaws.test_a_refused_start_hurts_no_other),
    (M23PoisonRowAbortsTheBatch, StoreLaws.test_a_poisoned_run_does_not_keep_the_others_of_its_claim),
    (
        M24StatementRollbackTakenForTransactionRollback,
        StoreLaws.test_a_refused_checkpoint_is_refused_whole_and_hurts_no_other,
    ),
]


def name_of(thing: object) -> str:
    return getattr(thing, "__name__", "")


class Mutated(StoreUnderTest):
    def __init__(self, mutant: type[Layer]) -> None:
        self.clock = ManualClock()
        self.mutant = mutant

    async def open(self) -> Backend:
        wrong_clock = self.mutant is M03ExpiryByTheWorkersClock
        store = await open_store("memory://", clock=wall_clock if wrong_clock else self.clock)
        return self.mutant(store)


def wall_clock() -> int:
    return time.time_ns() // 1_000


async def judge(mutant: type[Layer], law: Callable[..., Any]) -> None:
    under_test = Mutated(mutant)
    bench = Bench(await under_test.open(), under_test)
    try:
        await law(StoreLaws(), bench)
        assert await bench.broken() == []
    finally:
        await bench.store.close()


@pytest.mark.parametrize(("mutant", "law"), LAWS, ids=name_of)
async def test_a_planted_bug_is_caught_by_the_law_named_for_it(
    mutant: type[Layer], law: Callable[..., Any]
) -> None:
    with pytest.raises((AssertionError, BackendError)):
        await judge(mutant, law)


@pytest.mark.parametrize("law", sorted({law for _, law in LAWS}, key=name_of))
async def test_the_healthy_store_under_the_same_layer_keeps_the_law(law: Callable[..., Any]) -> None:
    await judge(Layer, law)


def test_every_mutant_that_was_planted_is_in_the_list() -> None:
    assert {mutant for mutant, _ in LAWS} == all_layers(Layer)
    assert all(inspect.iscoroutinefunction(law) for _, law in LAWS)


def all_layers(base: type[Layer]) -> set[type[Layer]]:
    below = set(base.__subclasses__())
    return below.union(*(all_layers(each) for each in below))
