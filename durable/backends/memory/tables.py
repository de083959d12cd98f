"""All rows of one memory store, and the moves that several calls share: deliver, insert, close, forget.

Only `Tables` changes what claims look at: whoever changes a row calls `place` or `place_activity` afterwards,
which puts it where it now belongs. There is no other way in which a row becomes ready or stops being so, so
nothing can be forgotten.

There are no locks. A call runs from its first to its last line without an ``await``, and so alone.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator

from durable.backends.memory.due import DueQueue
from durable.backends.memory.rows import (
    ActivityKey,
    ActivityRow,
    BacklogRow,
    HeldBy,
    InstanceRow,
    QuestionKey,
    QuestionRow,
    RunKey,
    RunRow,
    Unread,
)
from durable.backends.records import (
    CHILD_CLOSED,
    MAX_UNREAD_MESSAGES,
    Accepted,
    ActivityRef,
    Claimant,
    Close,
    End,
    Finished,
    Full,
    Head,
    HeldLease,
    InstanceRef,
    Message,
    NewInstance,
    NewMessage,
    NotFound,
)
from durable.backends.wakeup import Bell
from durable.errors import BackendError

Kind = tuple[str, str, str]
"""Queue, workflow, version: what a claim asks for."""

NEVER_US = 2**63 - 1
"""The due time of a stalled run that time alone does not bring back."""


class Tables:
    """The data of a store. Its users are the handles that `open_store` gives."""

    def __init__(self, url: str, clock: Callable[[], int]) -> None:
        self.url = url
        self.bell = Bell()
        self.bell.hears_others = True
        self.users = 0
        self.clock = clock
        self._last_us = 0
        self.instances: dict[str, InstanceRow] = {}
        self.children: dict[RunKey, dict[RunKey, None]] = {}
        """The runs that name a run as their parent, oldest first."""
        self.ready: dict[tuple[str, Kind], DueQueue[RunKey]] = defaultdict(DueQueue)
        """Running runs: under ``""`` for anybody, under a worker's id for the one that has the lease."""
        self.stalled: dict[Kind, DueQueue[RunKey]] = defaultdict(DueQueue)
        self.overdue: DueQueue[RunKey] = DueQueue()
        self.closings: DueQueue[RunKey] = DueQueue()
        self.activities: dict[tuple[str, str], DueQueue[ActivityKey]] = defaultdict(DueQueue)
        """Ordinary attempts, by queue and name."""
        self.expiring: DueQueue[ActivityKey] = DueQueue()
        self.questions: dict[QuestionKey, QuestionRow] = {}
        self.unanswered: dict[QuestionKey, QuestionRow] = {}
        """Those of ``questions`` that still wait; they are few and live for seconds, so a claim looks at each."""
        self.old_questions: DueQueue[QuestionKey] = DueQueue()
        self.outbox: dict[RunKey, BacklogRow] = {}
        self.outbox_due: DueQueue[RunKey] = DueQueue()
        self.outbox_ids: dict[str, RunKey] = {}
        self.roles: dict[str, HeldBy] = {}

    def now(self) -> int:
        """The store's time, which never goes back. Every call begins with it."""
        if self.users <= 0:
            raise BackendError(f"{self.url} is closed")
        self._last_us = max(self._last_us, self.clock())
        return self._last_us

    # --- looking up -----------------------------------------------------------------------------------------

    def run(self, instance_id: str, run_id: str | None) -> RunRow | None:
        """This run, or the current one of the instance; ``None`` if there is none."""
        instance = self.instances.get(instance_id)
        if instance is None:
            return None
        return instance.current if run_id is None else instance.runs.get(run_id)

    def at(self, ref: InstanceRef) -> RunRow | None:
        """The run that a reference names."""
        return self.run(ref.instance_id, ref.run_id)

    def runs(self) -> Iterator[RunRow]:
        """Every run."""
        for instance in self.instances.values():
            yield from instance.runs.values()

    def activity(self, ref: ActivityRef) -> ActivityRow | None:
        """This activity, if it is not over."""
        run = self.run(ref.instance_id, ref.run_id)
        return None if run is None else run.activities.get(ref.number)

    def children_to_close(self, parent: RunKey) -> Iterator[RunRow]:
        """The children of a run that are unfinished, not abandoned, and not yet asked to end; oldest first."""
        for key in self.children.get(parent, ()):
            child = self.run(*key)
            if child is None or child.parent is None or not child.is_open or child.parent.close == "abandon":
                continue
            asked = f"close/{parent[1]}" in self.instances[child.instance_id].keys
            if not (child.parent.close == "cancel" and asked):
                yield child

    # --- where claims find what is ready --------------------------------------------------------------------

    def place(self, run: RunRow) -> None:
        """Put a run where claims look for it, by what its fields say now."""
        kind = (run.queue, run.workflow, run.version)
        running = run.state == "running"
        for_anybody_us = run.ready_at_us if run.lease is None else run.lease.until_us
        self.ready["", kind].put(run.key, for_anybody_us if running else None)
        if run.lease is not None:
            self.ready[run.lease.worker_id, kind].put(run.key, run.ready_at_us if running else None)
        retry_us = NEVER_US if run.retry_at_us is None else run.retry_at_us
        held_us = 0 if run.lease is None else run.lease.until_us
        self.stalled[kind].put(run.key, max(retry_us, held_us) if run.state == "stalled" else None)

    def lease(self, run: RunRow, lease: HeldBy | None) -> None:
        """Give the run to somebody (or nobody), and take it from whoever had it. `place` it afterwards."""
        if run.lease is not None:
            self.ready[run.lease.worker_id, (run.queue, run.workflow, run.version)].put(run.key, None)
        run.lease = lease

    def make_ready(self, run: RunRow, now_us: int) -> None:
        """There is something to do for whoever has the run, from now on at the latest."""
        run.ready_at_us = now_us if run.ready_at_us is None else min(run.ready_at_us, now_us)
        self.place(run)
        if run.state == "running":
            self.bell.ring("workflow")

    def place_activity(self, row: ActivityRow) -> None:
        """Put an activity where claims look for it; nowhere while its run is paused."""
        run = self.run(row.ref.instance_id, row.ref.run_id)
        held = run is None or run.state == "paused"
        due_us = row.ready_at_us if row.lease is None else row.lease.until_us
        ordinary = not (held or row.parked or row.expired)
        expiring_us = due_us if row.expired else row.expires_at_us
        self.activities[row.new.queue, row.new.name].put(row.key, due_us if ordinary else None)
        self.expiring.put(row.key, None if held else expiring_us)

    def drop_activity(self, row: ActivityRow) -> None:
        """The activity is over, or nobody wants it any more."""
        run = self.run(row.ref.instance_id, row.ref.run_id)
        if run is not None:
            run.activities.pop(row.ref.number, None)
        self.activities[row.new.queue, row.new.name].put(row.key, None)
        self.expiring.put(row.key, None)

    # --- messages -------------------------------------------------------------------------------------------

    def deliver(
        self, new: NewMessage, now_us: int, *, limited: bool = True
    ) -> Accepted | NotFound | Finished | Full:
        """Put a message into an inbox, once for each key, and make the run ready.

        ``limited=False``: of the store's own, on which somebody waits. Those are never too many, and their keys are not
        remembered: what they answer can be answered once, unless the engine asks for it again.
        """
        instance = self.instances.get(new.instance_id)
        if instance is None:
            return NotFound()
        if limited and new.key in instance.keys:
            return Accepted()
        run = self.run(new.instance_id, new.run_id)
        if run is None:
            return NotFound()
        if not run.is_open:
            return Finished(state=run.state)
        if limited and len(instance.inbox) >= MAX_UNREAD_MESSAGES:
            return Full()
        if limited:
            instance.keys.add(new.key)
        self._put(instance, new, now_us)
        self.make_ready(run, now_us)
        return Accepted()

    @staticmethod
    def _put(instance: InstanceRow, new: NewMessage, now_us: int) -> None:
        instance.sent += 1
        message = Message(number=instance.sent, key=new.key, kind=new.kind, body=new.body, sent_at_us=now_us)
        instance.inbox[instance.sent] = Unread(message=message, run_id=new.run_id)

    # --- the life of a run ----------------------------------------------------------------------------------

    def insert(self, new: NewInstance, now_us: int, before: RunRow | None = None) -> RunRow:
        """Make a run. ``before``: the one of the same instance that it continues, already ended."""
        instance = self.instances.setdefault(new.instance_id, InstanceRow(instance_id=new.instance_id))
        if before is None:
            instance.keys.clear()
            instance.inbox.clear()
            instance.update_replies.clear()
        run = _new_run(new, now_us)
        if before is not None:
            _inherit(run, before)
        run.seen = next(iter(instance.inbox), instance.sent + 1) - 1  # what is left is new to it
        instance.runs[run.run_id] = run
        if new.lease is not None:
            run.claims = 1
            self.lease(run, held_by(new.lease, now_us))
        self._enter_as_child(run, now_us)
        self.overdue.put(run.key, run.deadline_us)
        self.place(run)
        if run.state == "running":
            self.bell.ring("workflow")
        for message in new.messages:
            self.deliver(message, now_us)
        if instance.inbox:
            self.make_ready(run, now_us)
        return run

    def _enter_as_child(self, run: RunRow, now_us: int) -> None:
        if run.parent is None:
            return
        parent_key = (run.parent.instance_id, run.parent.run_id)
        self.children.setdefault(parent_key, {})[run.key] = None
        parent = self.run(*parent_key)
        if parent is not None and not parent.is_open and parent_key not in self.closings:
            self.closings.put(parent_key, now_us)

    def end(self, run: RunRow, end: End, now_us: int) -> None:
        """Close an unfinished run from outside."""
        self.instances[run.instance_id].end_tokens.add(end.token)
        run.append((end.event,), Head(number=run.head.number + 1, token=end.token), now_us)
        self.close(run, end.close, now_us)
        run.reason = end.reason

    def close(self, run: RunRow, close: Close, now_us: int, *, continued: bool = False) -> None:
        """End a run, whose last event is written: nothing of it is ready, leased or unread afterwards."""
        instance = self.instances[run.instance_id]
        run.state = close.state
        run.result, run.failure = close.result, close.failure
        run.closed_at_us = run.updated_at_us = now_us
        run.ready_at_us = run.wake_at_us = run.retry_at_us = run.problem = run.reason = None
        self.lease(run, None)
        self.place(run)
        self.overdue.put(run.key, None)
        for activity in list(run.activities.values()):
            self.drop_activity(activity)
        for number, unread in list(instance.inbox.items()):
            if unread.run_id is not None or not continued:
                del instance.inbox[number]
        self._tell_parent(run, close, now_us)
        if next(self.children_to_close(run.key), None) is not None:
            self.closings.put(run.key, now_us)
            self.bell.ring("workflow")
        self.bell.ring("closed", ids=(run.instance_id,))

    def _tell_parent(self, run: RunRow, close: Close, now_us: int) -> None:
        if run.parent is None or close.parent_body is None:
            return
        message = NewMessage(
            instance_id=run.parent.instance_id,
            run_id=run.parent.run_id,
            key=f"closed/{run.run_id}",
            kind=CHILD_CLOSED,
            body=close.parent_body,
        )
        self.deliver(message, now_us, limited=False)

    def forget(self, run: RunRow) -> None:
        """Remove a finished run; with the last one, all that is known of its instance.

        What it owes to others stays: events that are not published, children that are not closed, and whose children
        those are.
        """
        instance = self.instances[run.instance_id]
        del instance.runs[run.run_id]
        if run.parent is not None:
            parent = (run.parent.instance_id, run.parent.run_id)
            siblings = self.children.get(parent, {})
            siblings.pop(run.key, None)
            if not siblings:
                self.children.pop(parent, None)
        if not instance.runs:
            del self.instances[run.instance_id]
            for key in [key for key in self.questions if key[0] == run.instance_id]:
                self.forget_question(key)

    def forget_question(self, key: QuestionKey) -> None:
        """Remove a question with its answer."""
        self.questions.pop(key, None)
        self.unanswered.pop(key, None)
        self.old_questions.put(key, None)


def held_by(lease: HeldLease | Claimant, now_us: int) -> HeldBy:
    """The lease that a row is born with, or that a claimant gets."""
    # At least a moment: one claim must not come by the same row twice.
    return HeldBy(worker_id=lease.worker_id, token=lease.token, until_us=now_us + max(1, lease.lease_us))


def _new_run(new: NewInstance, now_us: int) -> RunRow:
    run = RunRow(
        instance_id=new.instance_id,
        run_id=new.run_id,
        workflow=new.workflow,
        version=new.version,
        queue=new.queue,
        head=new.head,
        events=[],
        created_at_us=now_us,
        updated_at_us=now_us,
        first_run_id=new.run_id,
        tags=dict(new.tags),
        parent=new.parent,
        start_at_us=new.start_at_us,
        deadline_us=None if new.timeout_us is None else now_us + new.timeout_us,
        ready_at_us=_first_ready_us(new, now_us),
    )
    run.append(new.events, new.head, now_us)
    return run


def _first_ready_us(new: NewInstance, now_us: int) -> int | None:
    if new.start_at_us is not None and new.start_at_us > now_us:
        return new.start_at_us
    # Born claimed: the claim takes in that it was just made.
    return now_us if new.lease is None else None


def _inherit(run: RunRow, before: RunRow) -> None:
    run.first_run_id = before.first_run_id
    run.parent = before.parent
    run.deadline_us = before.deadline_us
    run.tags = before.tags
    run.vars = dict(before.vars)
    run.status = before.status
    before.next_run_id = run.run_id
