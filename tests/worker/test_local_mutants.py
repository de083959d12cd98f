"""Each planted bug of activities without a row is caught by the rule that it breaks."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.conformance.mutants import local_activities as mutants
from tests.worker import stores
from tests.worker import test_local_activities as rules
from tests.worker.test_local_activities import Rule, scene

Plant = Callable[[pytest.MonkeyPatch], None]
CAUGHT: list[tuple[Plant, Rule]] = [
    (
        mutants.m1_begun_while_the_checkpoint_is_on_its_way,
        rules.rule_1_it_starts_when_what_led_to_it_is_durable,
    ),
    (mutants.m2_at_most_once_is_overlooked, rules.rule_2_what_may_run_only_once_has_a_row_first),
    (mutants.m2_claims_are_overlooked, rules.rule_2_so_has_what_may_have_killed_a_worker),
    (mutants.m2_slots_are_overlooked, rules.rule_2_more_than_slots_are_open_to_all),
    (mutants.m2_nothing_may_wait, rules.rule_2_it_waits_behind_what_has_no_row_either),
    (mutants.m2_what_has_a_row_is_waited_for, rules.rule_2_but_not_behind_what_has_one),
    (
        mutants.m5_what_waits_is_kept,
        rules.rule_5_what_waits_for_its_slot_is_open_to_all_after_a_moment,
    ),
    (mutants.m6_what_waits_is_not_cancelled, rules.rule_6_it_is_cancelled_while_it_waits_for_its_slot),
    (mutants.m3_the_lease_is_not_renewed, rules.rule_3_the_lease_of_the_run_is_held),
    (mutants.m3_a_checkpoint_gives_the_lease_up, rules.rule_3_the_lease_of_the_run_is_held),
    (mutants.m4_a_schedule_is_written_without_a_row, rules.rule_4_a_schedule_without_its_result_has_a_row),
    (mutants.m5_no_row_comes_with_time, rules.rule_5_it_gets_its_row_after_a_moment),
    (mutants.m5_nobody_waits_for_a_row, rules.rule_5_it_gets_its_row_before_it_is_completed_later),
    (mutants.m5_nobody_waits_for_a_row, rules.rule_5_it_gets_its_row_before_it_is_retried),
    (mutants.m5_nobody_waits_for_a_row, rules.rule_5_it_gets_its_row_at_the_end_of_a_drain),
    (
        mutants.m5_heartbeats_without_a_row_are_forgotten,
        rules.rule_5_what_it_told_before_it_had_a_row_is_stored,
    ),
    (mutants.m6_the_cancelled_runs_on, rules.rule_6_it_is_cancelled_in_place),
    (mutants.m6_the_cancelled_gets_a_row, rules.rule_6_it_is_cancelled_in_place),
    (
        mutants.m7_the_store_is_told_of_what_it_does_not_know,
        rules.rule_7_results_without_a_row_are_dropped_with_the_head,
    ),
    (
        mutants.m7_what_ran_for_a_lost_head_runs_on,
        rules.rule_7_results_without_a_row_are_dropped_with_the_head,
    ),
]


@pytest.mark.parametrize(("plant", "rule"), CAUGHT, ids=lambda each: getattr(each, "__name__", ""))
async def test_a_planted_bug_is_caught_by_its_rule(
    plant: Plant, rule: Rule, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stores, "LOOKS", 100)
    monkeypatch.setattr(stores, "PATIENCE_SECONDS", 0.5)
    plant(monkeypatch)
    async with scene() as here:
        with pytest.raises((AssertionError, TimeoutError)):
            await rule(here, monkeypatch)


def test_every_rule_has_a_bug_and_every_bug_a_rule() -> None:
    planted = {value for name, value in vars(mutants).items() if name.startswith("m") and name[1:2].isdigit()}
    assert planted == {plant for plant, _ in CAUGHT}
    assert set(rules.RULES) == {rule for _, rule in CAUGHT}
