"""Planted bugs of activities without a row: one or more for each of the rules of `durable.worker.local_activities`."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace
from typing import Any

import pytest

from durable.backends.records import ActivityRef
from durable.worker import activity_tasks, local_activities, workflow_tasks
from durable.worker.activity_tasks import ActivityTasks
from durable.worker.attempt import RunningAttempt
from durable.worker.leases import Leases
from durable.worker.local_activities import LocalActivities
from durable.worker.warm import LocalResult, WarmRun, Written
from durable.worker.workflow_tasks import WorkflowTasks


def m1_begun_while_the_checkpoint_is_on_its_way(patch: pytest.MonkeyPatch) -> None:
    submit, start = WorkflowTasks._submit, LocalActivities.start

    def at_once(self: WorkflowTasks, warm: WarmRun, written: Written) -> None:
        submit(self, warm, written)
        start(self._parts.local, warm, written.kept, written.outcome)

    def only_if_nothing_is_written(
        self: LocalActivities, warm: WarmRun, kept: Collection[Any], outcome: Any
    ) -> None:
        if not warm.head.number > 1:
            start(self, warm, kept, outcome)

    patch.setattr(WorkflowTasks, "_submit", at_once)
    patch.setattr(LocalActivities, "start", only_if_nothing_is_written)


def m2_at_most_once_is_overlooked(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(local_activities, "_only_once", lambda options: False)


def m2_claims_are_overlooked(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(LocalActivities, "_may_keep", staticmethod(lambda warm: True))


def m2_slots_are_overlooked(patch: pytest.MonkeyPatch) -> None:
    keep = LocalActivities.keep_back

    def with_many_slots(self: LocalActivities, warm: WarmRun, outcome: Any) -> Any:
        slots, self._parts.activities._slots = self._parts.activities._slots, 10_000
        try:
            return keep(self, warm, outcome)
        finally:
            self._parts.activities._slots = slots

    patch.setattr(LocalActivities, "keep_back", with_many_slots)


def m2_what_has_a_row_is_waited_for(patch: pytest.MonkeyPatch) -> None:
    def reserve(self: ActivityTasks, count: int, *, at_once: bool) -> bool:
        self._reserved += count
        return True

    patch.setattr(ActivityTasks, "reserve_rowless", reserve)


def m2_nothing_may_wait(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(activity_tasks, "WAITING_PER_SLOT", 0)


def m5_what_waits_is_kept(patch: pytest.MonkeyPatch) -> None:
    has_row = ActivityTasks.has_row

    def keep(self: ActivityTasks, ref: Any, token: str) -> None:
        if ref in self._waiting:
            self._parts.leases.keep_activity(ref, token)
        else:
            has_row(self, ref, token)

    patch.setattr(ActivityTasks, "has_row", keep)


def m6_what_waits_is_not_cancelled(patch: pytest.MonkeyPatch) -> None:
    cancel = ActivityTasks.cancel

    def forget(self: ActivityTasks, ref: Any) -> None:
        if ref not in self._waiting:
            cancel(self, ref)

    patch.setattr(ActivityTasks, "cancel", forget)


def m3_the_lease_is_not_renewed(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Leases, "keep_run", lambda self, task, keep: None)


def m3_a_checkpoint_gives_the_lease_up(patch: pytest.MonkeyPatch) -> None:
    draw_up = workflow_tasks.checkpoint_of
    patch.setattr(
        workflow_tasks, "checkpoint_of", lambda *args, **fields: draw_up(*args, **{**fields, "lease": None})
    )


def m4_a_schedule_is_written_without_a_row(patch: pytest.MonkeyPatch) -> None:
    draw_up = WorkflowTasks._drawn_up

    def rowless(self: WorkflowTasks, warm: WarmRun, *args: Any) -> Written:
        written = draw_up(self, warm, *args)
        rows = tuple(new for new in written.checkpoint.activities if new.number not in warm.rowless)
        return replace(written, checkpoint=replace(written.checkpoint, activities=rows))

    patch.setattr(WorkflowTasks, "_drawn_up", rowless)


def m5_no_row_comes_with_time(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(LocalActivities, "watch", lambda self, warm: None)


def m5_nobody_waits_for_a_row(patch: pytest.MonkeyPatch) -> None:
    async def at_once(self: LocalActivities, attempt: RunningAttempt) -> bool:
        return True

    patch.setattr(LocalActivities, "row", at_once)


def m5_heartbeats_without_a_row_are_forgotten(patch: pytest.MonkeyPatch) -> None:
    def forgetful(self: ActivityTasks, ref: ActivityRef, token: str) -> None:
        attempt = self._running.get(ref)
        if attempt is not None:
            attempt.rowless = False
            self._parts.leases.keep_activity(ref, token)

    patch.setattr(ActivityTasks, "has_row", forgetful)


def m6_the_cancelled_runs_on(patch: pytest.MonkeyPatch) -> None:
    cancel = WorkflowTasks._cancel

    def only_rows(self: WorkflowTasks, warm: WarmRun, numbers: frozenset[int]) -> None:
        cancel(self, warm, frozenset())

    patch.setattr(WorkflowTasks, "_cancel", only_rows)


def m6_the_cancelled_gets_a_row(patch: pytest.MonkeyPatch) -> None:
    draw_up = WorkflowTasks._drawn_up

    def with_row(self: WorkflowTasks, warm: WarmRun, *args: Any) -> Written:
        written = draw_up(self, warm, *args)
        withdrawn = tuple(number for number in warm.rowless if number in written.cancelled)
        return replace(written, checkpoint=replace(written.checkpoint, withdrawn=withdrawn))

    patch.setattr(WorkflowTasks, "_drawn_up", with_row)


def m7_the_store_is_told_of_what_it_does_not_know(patch: pytest.MonkeyPatch) -> None:
    def all_of_them(self: WorkflowTasks, warm: WarmRun, results: Iterable[LocalResult]) -> None:
        for result in results:
            self._parts.finish(result.outcome)

    patch.setattr(WorkflowTasks, "_give_back", all_of_them)


def m7_what_ran_for_a_lost_head_runs_on(patch: pytest.MonkeyPatch) -> None:
    def forget(self: LocalActivities, warm: WarmRun) -> None:
        warm.owed, warm.rowless = [], {}

    patch.setattr(LocalActivities, "drop", forget)
