"""Leases: what this worker works on is renewed together, in one call, three times in each lease's life.

A lease only keeps others from doing the same work; that it was lost is no danger, but a reason to stop. Heartbeat
details travel with the renewals.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING

from durable.backends.records import ActivityLease, ActivityRef, Extended, Lease, WorkflowLease, WorkflowTask
from durable.errors import BackendError

if TYPE_CHECKING:
    from durable.worker.parts import Parts

HEARTBEAT_SPACING_SECONDS = 0.5
MOST_SECONDS = 4.0  # a renewal is also how an attempt hears that it was cancelled elsewhere: within 5 s
MAX_ITEMS = 500
_log = logging.getLogger("durable")


class Leases:
    """The runs and activities that this worker keeps."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._runs: dict[str, WorkflowLease] = {}
        self._activities: dict[ActivityRef, ActivityLease] = {}
        self._ended: dict[ActivityRef, ActivityLease] = {}
        """Of attempts that have ended, and whose outcomes are still to be written."""
        self._beat = asyncio.Event()

    def keep_run(self, task: WorkflowTask, keep: bool) -> None:
        """Renew the lease of a run from now on, or no more."""
        if not keep:
            self._runs.pop(task.run_id, None)
        elif task.run_id not in self._runs:
            self._runs[task.run_id] = WorkflowLease(
                instance_id=task.instance_id,
                run_id=task.run_id,
                worker_id=self._parts.worker_id,
                lease_us=self._parts.lease_us,
            )

    def keep_activity(self, ref: ActivityRef, token: str) -> None:
        """Renew the lease of an attempt from now on."""
        self._activities[ref] = ActivityLease(ref=ref, token=token, lease_us=self._parts.lease_us)

    def drop_activity(self, ref: ActivityRef) -> None:
        """Renew the lease of an attempt no more."""
        self._activities.pop(ref, None)

    def end_activity(self, ref: ActivityRef) -> None:
        """The attempt has ended. Its lease is renewed until its outcome is written (`told`), however long that takes:
        else others would do again, and again, what was done.
        """
        lease = self._activities.pop(ref, None)
        if lease is not None:
            self._ended[ref] = ActivityLease(ref=ref, token=lease.token, lease_us=lease.lease_us)

    def told(self, ref: ActivityRef, token: str) -> None:
        """The store has judged the outcome of the attempt with this token."""
        lease = self._ended.get(ref)
        if lease is not None and lease.token == token:
            del self._ended[ref]

    def heartbeat(self, ref: ActivityRef, details: str) -> None:
        """Store these details with the next renewal, which comes soon."""
        lease = self._activities.get(ref)
        if lease is not None:
            self._activities[ref] = ActivityLease(
                ref=ref, token=lease.token, lease_us=lease.lease_us, details=details
            )
            self._beat.set()

    def held(self) -> list[Lease]:
        """Everything that is being renewed."""
        return [*self._runs.values(), *self._activities.values(), *self._ended.values()]

    async def run(self) -> None:
        """Renew until cancelled."""
        every = min(self._parts.lease_us / 1e6 / 3, MOST_SECONDS)
        clock = asyncio.get_running_loop().time
        due = clock() + every
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(due):
                    await self._beat.wait()
            beats_only = clock() < due
            if not beats_only:
                due = clock() + every
            self._beat.clear()
            try:
                await self._renew(beats_only)
            except BackendError as error:
                _log.warning("leases could not be renewed, trying again: %s", error)
            await asyncio.sleep(min(HEARTBEAT_SPACING_SECONDS, every))

    async def _renew(self, beats_only: bool) -> None:
        leases = [*self._activities.values()] if beats_only else self.held()
        if beats_only:
            leases = [
                lease for lease in leases if isinstance(lease, ActivityLease) and lease.details is not None
            ]
        for start in range(0, len(leases), MAX_ITEMS):
            some = leases[start : start + MAX_ITEMS]
            answer = await self._parts.store.extend(some)
            self._parts.clock.hear(answer.now_us)
            for lease, verdict in zip(some, answer.items, strict=True):
                self._judged(lease, verdict)

    def _judged(self, lease: Lease, verdict: object) -> None:
        if isinstance(lease, WorkflowLease):
            if not isinstance(verdict, Extended):
                self._runs.pop(lease.run_id, None)
            return
        if not isinstance(verdict, Extended):
            self.told(lease.ref, lease.token)
        current = self._activities.get(lease.ref)
        if current is None or current.token != lease.token:
            return
        if not isinstance(verdict, Extended):
            self._parts.activities.cancel(lease.ref)
        elif current is lease:
            self._activities[lease.ref] = ActivityLease(
                ref=lease.ref, token=lease.token, lease_us=lease.lease_us
            )
