"""The memory store's `AdminStore`: lists, deletion, counts, what runs hold, roles, the outbox."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterator, Sequence

from durable.backends.memory.audit import audit
from durable.backends.memory.claims import Claims, Handed
from durable.backends.memory.rows import BacklogRow, HeldBy, RunRow
from durable.backends.memory.tables import Tables, held_by
from durable.backends.records import (
    ANSWER_KINDS,
    Accepted,
    Answer,
    Claimant,
    Filter,
    Finding,
    Holdings,
    InstanceRef,
    InstanceView,
    NotFound,
    OutboxEvent,
    Purge,
    Stats,
    Unfinished,
    Verdict,
)


class MemoryAdminStore:
    """See `durable.backends.contract.AdminStore`."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._outbox_claims = Claims()

    async def migrate(self) -> Answer[None]:
        """Nothing to do: there are no older versions of what is in memory."""
        return Answer(now_us=self._tables.now(), items=())

    # --- lists ----------------------------------------------------------------------------------------------

    async def find(self, filter: Filter) -> Answer[InstanceView]:
        now_us = self._tables.now()
        matching = (run for run in self._tables.runs() if _matches(run, filter))
        some = heapq.nlargest if filter.newest_first else heapq.nsmallest
        return Answer(now_us=now_us, items=[run.view() for run in some(filter.limit, matching, key=_place)])

    async def children(self, ref: InstanceRef, limit: int) -> Answer[InstanceView]:
        now_us = self._tables.now()
        parents = [key for key in self._tables.children if key[0] == ref.instance_id]  # also forgotten ones
        keys = [key for key in parents if ref.run_id in (None, key[1])]
        found = [self._tables.run(*child) for key in keys for child in self._tables.children.get(key, ())]
        oldest = heapq.nsmallest(limit, (run for run in found if run is not None), key=_place)
        return Answer(now_us=now_us, items=[run.view() for run in oldest])

    async def stats(self) -> Stats:
        now_us = self._tables.now()
        runs = [instance.current for instance in self._tables.instances.values()]
        return Stats(
            instances=dict(Counter(run.state for run in runs)),
            activity_tasks=dict(Counter(row.new.queue for run in runs for row in run.activities.values())),
            workflow_tasks=dict(Counter(run.queue for run in runs if _is_ready(run, now_us))),
            outbox=sum(len(backlog.events) for backlog in self._tables.outbox.values()),
        )

    async def audit(self, *, repair: bool = False) -> Answer[Finding]:
        now_us = self._tables.now()
        return Answer(now_us=now_us, items=list(audit(self._tables, now_us, repair=repair)))

    async def holdings(self, refs: Sequence[InstanceRef]) -> Answer[Holdings | None]:
        now_us = self._tables.now()
        return Answer(now_us=now_us, items=[self._holdings_of(self._tables.at(ref)) for ref in refs])

    def _holdings_of(self, run: RunRow | None) -> Holdings | None:
        if run is None or not run.is_open:
            return None
        unread = self._tables.instances[run.instance_id].inbox.values()
        return Holdings(
            instance_id=run.instance_id,
            run_id=run.run_id,
            state=run.state,
            head=run.head,
            seen=run.seen,
            wake_at_us=run.wake_at_us,
            ready_at_us=run.ready_at_us,
            lease_until_us=None if run.lease is None else run.lease.until_us,
            activities=tuple(sorted(run.activities)),
            answers=tuple(row.message.key for row in unread if row.message.kind in ANSWER_KINDS),
        )

    # --- deletion -------------------------------------------------------------------------------------------

    async def delete(self, refs: Sequence[InstanceRef]) -> Answer[Verdict]:
        now_us = self._tables.now()
        return Answer(now_us=now_us, items=[self._delete_one(ref) for ref in refs])

    def _delete_one(self, ref: InstanceRef) -> Verdict:
        run = self._tables.at(ref)
        if run is None:
            return NotFound()
        if run.is_open:
            return Unfinished(state=run.state)
        whole = ref.run_id is None
        for one in list(self._tables.instances[ref.instance_id].runs.values()) if whole else [run]:
            self._tables.forget(one)
        return Accepted()

    async def purge(self, purge: Purge) -> Answer[InstanceRef]:
        now_us = self._tables.now()
        old = (
            (run.closed_at_us, run.run_id, run)
            for run in self._tables.runs()
            if run.state in purge.states
            and run.closed_at_us is not None
            and run.closed_at_us < purge.closed_before_us
        )
        oldest = [run for _, _, run in heapq.nsmallest(purge.limit, old, key=lambda one: one[:2])]
        for run in oldest:
            self._tables.forget(run)
        refs = [InstanceRef(instance_id=run.instance_id, run_id=run.run_id) for run in oldest]
        return Answer(now_us=now_us, items=refs)

    # --- roles and outbox -----------------------------------------------------------------------------------

    async def hold_role(self, role: str, worker_id: str, lease_us: int) -> bool:
        now_us = self._tables.now()
        holder = self._tables.roles.get(role)
        if holder is not None and holder.worker_id != worker_id and holder.until_us > now_us:
            return False
        self._tables.roles[role] = HeldBy(worker_id=worker_id, token="", until_us=now_us + lease_us)
        return True

    async def claim_outbox(self, claimant: Claimant, limit: int) -> Answer[OutboxEvent]:
        now_us = self._tables.now()
        items = self._outbox_claims.hand_out("outbox", claimant, limit, self._unpublished(claimant, now_us))
        return Answer(now_us=now_us, items=items, next_wake_us=self._tables.outbox_due.next_us())

    def _unpublished(self, claimant: Claimant, now_us: int) -> Iterator[Handed[OutboxEvent]]:
        # A run's events belong to one claim until all that it was handed are published: else they could overtake.
        while (key := self._tables.outbox_due.due(now_us)) is not None:
            backlog = self._tables.outbox[key]
            backlog.lease = held_by(claimant, now_us)
            backlog.out.clear()
            self._tables.outbox_due.put(key, backlog.lease.until_us)
            for event in list(backlog.events.values()):
                backlog.out.add(event.id)
                yield _handed_event(backlog, event)

    async def finish_outbox(self, ids: Sequence[str]) -> Answer[Accepted]:
        now_us = self._tables.now()
        for event_id in ids:
            self._published(event_id, now_us)
        return Answer(now_us=now_us, items=[Accepted() for _ in ids])

    def _published(self, event_id: str, now_us: int) -> None:
        key = self._tables.outbox_ids.pop(event_id, None)
        if key is None:
            return
        backlog = self._tables.outbox[key]
        del backlog.events[event_id]
        backlog.out.discard(event_id)
        if not backlog.events:
            del self._tables.outbox[key]
            self._tables.outbox_due.put(key, None)
        elif backlog.lease is not None and not backlog.out:
            backlog.lease = None
            self._tables.outbox_due.put(key, now_us)


def _handed_event(backlog: BacklogRow, event: OutboxEvent) -> Handed[OutboxEvent]:
    lease = backlog.lease
    return Handed(event, lambda: event.id in backlog.out and backlog.lease is lease)


def _matches(run: RunRow, filter: Filter) -> bool:
    return (
        (filter.workflow is None or run.workflow == filter.workflow)
        and (not filter.status or run.status in filter.status)
        and (not filter.states or run.state in filter.states)
        and filter.tags.items() <= run.tags.items()
        and (filter.created_after_us is None or run.created_at_us > filter.created_after_us)
        and (filter.cursor is None or _is_beyond(_place(run), filter.cursor, filter.newest_first))
    )


def _place(run: RunRow) -> tuple[int, str]:
    return (run.created_at_us, run.run_id)


def _is_beyond(place: tuple[int, str], cursor: tuple[int, str], newest_first: bool) -> bool:
    return place < cursor if newest_first else place > cursor


def _is_ready(run: RunRow, now_us: int) -> bool:
    due_us = run.ready_at_us if run.lease is None else run.lease.until_us
    return run.state == "running" and due_us is not None and due_us <= now_us
