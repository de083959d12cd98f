"""Upkeep: what needs no code of the workflow, or only now and then. Loops without memory."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from durable.backends.records import (
    Accepted,
    ChildRef,
    Claimant,
    Closing,
    End,
    Finding,
    Finished,
    InstanceRef,
    NewMessage,
    NotFound,
    Overdue,
    Paused,
)
from durable.client.audit import Audit
from durable.client.endings import termination, time_out
from durable.client.verdicts import until_judged
from durable.core import messages
from durable.errors import BackendError

if TYPE_CHECKING:
    from durable.worker.parts import Parts

STALLED_EVERY_SECONDS = 60.0
STALLED_EVERY_SECONDS_WHEN_NEW = 5.0
NEW_FOR_SECONDS = 600.0
"""For so long a worker looks oftener: in a rolling deployment old ones park what it can go on with. One that has met
what a newer release wrote is an old one itself, and leaves it to the new."""
STALLED_AGAIN_SECONDS = 1.0
STALLED_BATCH = 100
AUDIT_EVERY_SECONDS = 30.0
AUDIT_REST = 20
"""An audit is followed by a rest of at least this many times its length: it stays a small load on a large store too."""
AUDIT_PAGE_SECONDS = 0.05
AUDIT_ROLE = "audit"
MOST_TOLD = 10_000
_OVER = (Accepted, Paused, Finished, NotFound)
"""Verdicts after which a child need not be asked to end again."""
_log = logging.getLogger("durable")


class Upkeep:
    """Ends what is overdue, closes the children of ended runs, tries stalled runs again, puts back what was lost."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._told: set[str] = set()

    def end_overdue(self, item: Overdue) -> None:
        """An instance's time is over: it fails with ``TimeoutError``, whoever has its code."""
        ref = InstanceRef(instance_id=item.instance_id, run_id=item.run_id)
        self._parts.change(time_out(ref, item.parent, self._parts.clock.now_us(), self._parts.converter))

    async def close_children(self, item: Closing) -> None:
        """An ended run's children get what their policy says."""
        try:
            ends = [self._end_of(item, child) for child in item.children if child.close == "terminate"]
            cancels = [_cancel_of(item, child) for child in item.children if child.close == "cancel"]
            verdicts = await until_judged(self._parts.store.change, ends)
            verdicts += await until_judged(self._parts.store.send, cancels)
            # The store judges anew: what has more children comes again at once. If not one of these could be ended
            # (their rows are held, their inboxes are full), it comes again when the lease has run out.
            if any(isinstance(verdict, _OVER) for verdict in verdicts):
                await self._parts.store.close_done([item])
        except BackendError as error:
            _log.warning("the children of instance %r are closed later: %s", item.instance_id, error)

    def _end_of(self, item: Closing, child: ChildRef) -> End:
        ref = InstanceRef(instance_id=child.instance_id, run_id=child.run_id)
        return termination(ref, None, f"its parent {item.instance_id!r} ended", self._parts.clock.now_us())

    async def try_stalled(self) -> None:
        """Until cancelled: at the start those that stalled under other code, then those whose delay has passed."""
        at_start, claimant = True, self._parts.claimant()
        clock = asyncio.get_running_loop().time
        new_until = clock() + NEW_FOR_SECONDS
        while True:
            try:
                more = await self._try_some(claimant, at_start)
            except BackendError as error:
                _log.warning("stalled runs could not be claimed: %s", error)
                # With the same token: runs that were handed out, but whose reply was lost, come again.
                await asyncio.sleep(STALLED_AGAIN_SECONDS)
                continue
            claimant = self._parts.claimant()
            if not more:
                at_start = False
                is_new = clock() < new_until and not self._parts.is_outdated
                await asyncio.sleep(STALLED_EVERY_SECONDS_WHEN_NEW if is_new else STALLED_EVERY_SECONDS)

    async def _try_some(self, claimant: Claimant, at_start: bool) -> bool:
        parts = self._parts
        answer = await parts.store.claim_stalled_tasks(claimant, STALLED_BATCH, at_start=at_start)
        parts.clock.hear(answer.now_us)
        if answer.items:
            await parts.workflow_tasks.take(answer.items)
            await parts.workflow_tasks.idle()
        return len(answer.items) == STALLED_BATCH

    # --- the audit --------------------------------------------------------------------------------------------------

    async def look_over(self) -> None:
        """Until cancelled: find instances that wait for what will never come, and put back what can be.

        One worker of all that share the store does it, page by page, beside its other work.
        """
        clock = asyncio.get_running_loop().time
        audit = Audit(self._parts.store, self._parts.converter, repair=True)
        rest = AUDIT_EVERY_SECONDS
        while True:
            await asyncio.sleep(rest)
            began = clock()
            try:
                await self._look(audit)
            except BackendError as error:
                _log.warning("the audit is made later: %s", error)
            except Exception:
                _log.exception("the audit failed, and is made again later")
            rest = max(AUDIT_EVERY_SECONDS, AUDIT_REST * (clock() - began))

    async def _look(self, audit: Audit) -> None:
        if not await self._has_the_role():
            return
        async for findings in audit.pages():
            for finding in findings:
                self._tell(finding)
            if not await self._has_the_role():
                return
            await asyncio.sleep(AUDIT_PAGE_SECONDS)

    async def _has_the_role(self) -> bool:
        parts = self._parts
        return await parts.store.hold_role(AUDIT_ROLE, parts.worker_id, round(3e6 * AUDIT_EVERY_SECONDS))

    def _tell(self, finding: Finding) -> None:
        """Each thing once: what cannot be mended is found each time."""
        words = f"{finding.rule}: {finding.detail}"
        if words not in self._told or finding.repaired:
            _log.warning("the audit found: %s", words)
        self._told.add(words)
        if len(self._told) > MOST_TOLD:
            self._told.clear()


def _cancel_of(item: Closing, child: ChildRef) -> NewMessage:
    return NewMessage(
        instance_id=child.instance_id,
        key=f"close/{item.run_id}",
        kind=messages.CANCEL,
        body=messages.cancel_body(f"its parent {item.instance_id!r} ended"),
    )
