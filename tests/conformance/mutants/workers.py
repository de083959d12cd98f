"""Planted bugs of the worker, the loop and replay: 13, 14, 16, 17, 18, 19, 20. Each patches one place for one law."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from durable.backends.batches import Batches
from durable.backends.records import ActivityTask, Checkpoint, Closing, Head, WorkflowTask
from durable.backends.wakeup import Listener
from durable.core import events
from durable.core.context import RunContext, Step
from durable.core.ids import new_token
from durable.core.replay import Run
from durable.worker import workflow_tasks
from durable.worker.activity_tasks import ActivityTasks
from durable.worker.claims import Claims
from durable.worker.parts import Parts
from durable.worker.upkeep import Upkeep
from durable.worker.warm import WarmRun
from durable.worker.workflow_tasks import WorkflowTasks

SECOND = 1_000_000


def m13_notify_without_poll(patch: pytest.MonkeyPatch) -> None:
    wait = Listener.wait

    async def until_it_rings(self: Listener, timeout_seconds: float | None) -> bool:
        patient = "workflow" in self.topics or "activity" in self.topics
        return await wait(self, None if patient else timeout_seconds)

    patch.setattr(Listener, "wait", until_it_rings)


def m14_blind_retry_of_an_unknown_commit(patch: pytest.MonkeyPatch) -> None:
    """What may have been written is drawn up anew, under another token, instead of repeated word for word."""
    make = Parts.__init__

    def with_blind_commits(self: Parts, **fields: Any) -> None:
        make(self, **fields)

        async def commit(checkpoints: Sequence[Checkpoint]) -> Any:
            return await self.store.commit([_under_another_token(one) for one in checkpoints])

        self.commits = Batches(commit)

    patch.setattr(Parts, "__init__", with_blind_commits)


def _under_another_token(checkpoint: Checkpoint) -> Checkpoint:
    return replace(checkpoint, new_head=Head(number=checkpoint.new_head.number, token=new_token()))


def m16_due_compared_in_whole_seconds(patch: pytest.MonkeyPatch) -> None:
    draw_up = workflow_tasks.checkpoint_of

    def due(self: Run, now_us: int) -> list[Any]:
        timers = sorted((at, number) for number, at in self.context.timers.items())
        return [
            events.TimerFired(time_us=at, number=number)
            for at, number in timers
            if at // SECOND <= now_us // SECOND
        ]

    def in_whole_seconds(*args: Any, **fields: Any) -> Checkpoint:
        drawn = draw_up(*args, **fields)
        until = drawn.fired_until_us
        return drawn if until is None else replace(drawn, fired_until_us=until // SECOND * SECOND)

    patch.setattr(Run, "due_timers", due)
    patch.setattr(workflow_tasks, "checkpoint_of", in_whole_seconds)


def m17_cache_kept_after_a_conflict(patch: pytest.MonkeyPatch) -> None:
    def always_good(self: WorkflowTasks, task: WorkflowTask) -> bool:
        warm = self.cache.get(task.run_id)
        if warm is not None and not warm.busy:
            warm.head = task.head
        return warm is not None

    def keep(self: WorkflowTasks, warm: WarmRun, written: Any) -> None:
        self._unreserve(written)
        self._free(warm)

    patch.setattr(WorkflowTasks, "_is_warm", always_good)
    patch.setattr(WorkflowTasks, "_lost", keep)


def m18_commands_in_the_order_of_a_set(patch: pytest.MonkeyPatch) -> None:
    take = RunContext.take_step

    def by_address(self: RunContext) -> Step:
        step = take(self)
        shuffled = list(step.commands.items())
        random.shuffle(shuffled)
        return replace(step, commands=dict(shuffled))

    patch.setattr(RunContext, "take_step", by_address)


def m19_recovery_at_launch_only(patch: pytest.MonkeyPatch) -> None:
    """What somebody held before is taken over by the first claim of a worker, and never again."""
    hand_out, start = Claims._hand_out, ActivityTasks.start
    launched: set[int] = set()

    async def of_the_first_claim(self: Claims, items: Sequence[Any]) -> None:
        fresh = [one for one in items if not isinstance(one, WorkflowTask) or one.claims < 2]
        await hand_out(self, items if id(self) not in launched else fresh)
        launched.add(id(self))

    def of_the_first_second(
        self: ActivityTasks, task: ActivityTask, *, reserved: bool = False, rowless: bool = False
    ) -> None:
        if reserved or task.deliveries < 2:
            start(self, task, reserved=reserved, rowless=rowless)

    patch.setattr(Claims, "_hand_out", of_the_first_claim)
    patch.setattr(ActivityTasks, "start", of_the_first_second)


def m20_sweeper_swallows_an_error_and_goes_on(patch: pytest.MonkeyPatch) -> None:
    close = Upkeep.close_children
    swept: set[str] = set()

    async def once(self: Upkeep, item: Closing) -> None:
        if item.run_id not in swept:
            swept.add(item.run_id)
            await close(self, item)

    patch.setattr(Upkeep, "close_children", once)
