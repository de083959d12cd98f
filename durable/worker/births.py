"""Instances that this worker's own client starts: they are born leased to the worker, which begins them unclaimed.

Only plain starts, and only as long as there is room here: what is delayed, has a deadline or messages, or shares an id
with a run that may be there, is claimed like everything else; so is what is beyond this worker's room, by whoever has
some. A worker that dies between the two steps delays the start by a lease, as with a claim.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from durable.backends.records import Created, HeldLease, NewInstance, WorkflowTask

if TYPE_CHECKING:
    from durable.worker.parts import Parts


class Births:
    """What a client asks before it creates an instance (`durable.client.nearby.Nearby`)."""

    def __init__(self, parts: Parts, max_workflow_tasks: int) -> None:
        self._parts = parts
        self._most = max_workflow_tasks
        self._coming = 0
        self._loop = asyncio.get_running_loop()

    def lease_for(self, new: NewInstance) -> HeldLease | None:
        """The lease to be born with, if this worker wants to begin it; `answered` has to follow."""
        parts = self._parts
        if parts.draining or not _is_plain(new) or new.queue not in parts.queues:
            return None
        if parts.registry.workflow(new.workflow, new.version) is None:
            return None
        if parts.workflow_tasks.working + self._coming >= self._most or parts.activities.free <= 0:
            return None
        if asyncio.get_running_loop() is not self._loop:
            return None
        self._coming += 1
        return parts.held_lease()

    def answered(self, new: NewInstance, answer: asyncio.Future[tuple[Any, int]]) -> None:
        """The store has answered, or it has not: then a run that was made after all waits for its lease to run out."""
        self._coming -= 1
        if answer.cancelled() or answer.exception() is not None:
            return
        verdict, now_us = answer.result()
        if not isinstance(verdict, Created):
            return
        self._parts.clock.hear(now_us)
        if self._parts.draining:
            self._parts.release_run(_task(new))
        else:
            self._parts.workflow_tasks.begin(_task(new))

    def is_ending(self, run_id: str | None) -> bool:
        """See `Nearby`."""
        return run_id is not None and self._parts.workflow_tasks.is_ending(run_id)


def _is_plain(new: NewInstance) -> bool:
    if new.start_at_us is not None or new.timeout_us is not None or new.lease is not None:
        return False
    return new.if_exists == "fail" and not new.messages and new.parent is None and len(new.events) == 1


def _task(new: NewInstance) -> WorkflowTask:
    """What a claim would hand out."""
    return WorkflowTask(
        instance_id=new.instance_id,
        run_id=new.run_id,
        workflow=new.workflow,
        version=new.version,
        queue=new.queue,
        state="running",
        head=new.head,
        history_bytes=sum(map(len, new.events)),
        messages=(),
        seen=0,
        claims=1,
        parent=None,
        wake_at_us=None,
        first_run_id=new.run_id,
        events=new.events,
    )
