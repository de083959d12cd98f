"""The contract between the engine and a store. A store keeps and fences; it never interprets an event.

To write a store, read this page, `records`, and `memory` (the reference implementation), then let
`durable.testing.conformance` judge it.

Laws for every method:

- **Plural, and a verdict each.** A call takes a list and answers item by item, in order. A lost race is an
  answer, not an exception. One bad item (`Refused`) never hurts its neighbours: the others are judged and
  written as if it were not there. An exception (`BackendError`) means that nobody knows; the caller repeats
  the call.
- **Repeatable.** A repeated call has the effect of one. Ids, keys and tokens come from the caller.
- **Acknowledged means durable.** A call returns after the commit. Only what leases runs (`claim_workflow_tasks`,
  `claim_stalled_tasks`, `claim_questions`) need not wait for the disk: should the machine fail, a lease that is
  forgotten is one that has run out. Claims of activities do wait: ``at_most_once`` rests on their count.
- **One order per batch.** The items of a batch are judged one after the other, in order; a later item sees
  the effects of the earlier ones.
- **One clock: the store's.** No time in a request is compared with anything but the store's own.
- **The head is the fence, leases are hints.** A lease keeps others from doing work twice; nothing that is
  written is right or wrong because of a lease. What `extend` and `finish_activities` check is the attempt's
  token.
- **Nothing waits on nothing.** An unfinished run has a message, a timer, an activity row, an unfinished child
  or a pending question of somebody, or it waits for a signal from people, which no store can see: what makes it
  ready is part of the same transaction as what it waits for.

Readiness of a run (state ``running``): it has an unread message that its last checkpoint had not seen (also
before ``start_at_us``), or ``wake_at_us`` has come, or it was just made and ``start_at_us`` (if any) has
come, or it was resumed or released. A claim takes all this in: a leased run is ready again for its own worker
when one of these happens after the claim. Others are handed it when the lease has run out, whatever it waits
for: what it waited for may have died with the worker. Paused, stalled and finished runs are never ready.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from durable.backends.records import (
    Accepted,
    ActivityFinished,
    ActivityOutcome,
    ActivityRef,
    ActivityTask,
    Answer,
    AskedTask,
    Busy,
    Cancelled,
    Change,
    Checkpoint,
    Claimant,
    Closing,
    Created,
    Existing,
    Extended,
    Filter,
    Finding,
    HistoryRange,
    HistorySlice,
    Holdings,
    InstanceRef,
    InstanceView,
    Lease,
    Lost,
    NewInstance,
    NewMessage,
    NotFound,
    OutboxEvent,
    Overdue,
    Purge,
    Question,
    Refused,
    Reply,
    Stats,
    Taken,
    Ticket,
    Verdict,
    WorkflowTask,
)
from durable.backends.wakeup import Bell


class WorkerStore(Protocol):
    """What a worker needs."""

    async def claim_workflow_tasks(
        self, claimant: Claimant, limit: int
    ) -> Answer[WorkflowTask | Overdue | Closing]:
        """Hand out up to ``limit`` ready runs, longest ready first, and lease them.

        - Only runs on the claimant's queues whose (workflow, version) it has. Runs of other definitions,
          however many are due, neither come nor slow the claim.
        - A task may bring the run's events (`WorkflowTask.events`) where that saves a call: of runs that nobody has
          worked on yet, above all.
        - Each claim is counted on its row (`WorkflowTask.claims`); an accepted checkpoint resets the count. A
          run claimed ten times without one is not handed out an eleventh time: it becomes ``stalled`` with a
          problem that says so.
        - A run that is leased to this very worker and has become ready is handed to it again; that is not counted.
        - Beside them, whatever the claimant's definitions: runs past their deadline (`Overdue`) and ended
          runs with children to be closed (`Closing`), leased for the same time.
        """
        ...

    async def claim_stalled_tasks(
        self, claimant: Claimant, limit: int, *, at_start: bool
    ) -> Answer[WorkflowTask]:
        """Hand out stalled runs of the claimant's definitions that are worth another try, and lease them.

        ``at_start``: those that stalled under another build than the claimant's; otherwise those whose
        ``retry_after_us`` has passed. They stay ``stalled`` until a checkpoint is accepted, which makes them
        ``running``.
        """
        ...

    async def read_history(self, ranges: Sequence[HistoryRange]) -> Answer[HistorySlice]:
        """Read events, as they were written."""
        ...

    async def commit(self, checkpoints: Sequence[Checkpoint]) -> Answer[Verdict]:
        """Write checkpoints: `Accepted`, `Paused`, `Lost`, `MoreMessages`, `TooEarly`, `Busy` or `Refused` each.

        - Judged by the head; see `Checkpoint`. A repeated checkpoint is answered `Accepted`.
        - `MoreMessages` when it closes the run (or continues it) and the inbox holds messages beyond ``seen``
          that it does not consume: the oldest 1,000 of them.
          Unread messages for a run that is over are dropped at its end; those for the instance stay for
          ``next_run``.
        - Effects on other instances (`sends`, `children`) never fail it. They happen in the order of their
          numbers, before it closes the run; their outcomes go into its own inbox.
        - Closing: activity rows of the run go; its parent gets ``parent_body``; its children are closed by
          `Closing`.
        - A message sent by one item of a batch is unread for the items after it; an id freed by one is free
          for them.
        """
        ...

    async def claim_activity_tasks(self, claimant: Claimant, limit: int) -> Answer[ActivityTask]:
        """Hand out up to ``limit`` ready attempts on the claimant's queues whose name it has, longest ready first.

        Ready is: its delay has passed, and it is not leased or its lease has run out (then ``deliveries``
        rises). Beside them, whatever the definitions, those with ``expired=True``: nobody claimed the first
        attempt within ``queue_timeout_us``, or nobody finished a parked one in time. Activities of paused
        runs are not handed out.
        """
        ...

    async def finish_activities(self, outcomes: Sequence[ActivityOutcome]) -> Answer[Verdict]:
        """`Accepted` if the attempt's token still stands, else `Lost`; see each outcome."""
        ...

    async def extend(self, leases: Sequence[Lease]) -> Answer[Extended | Cancelled | Lost]:
        """Renew leases and store heartbeats; `Cancelled` if the activity's row is gone or the run has ended,
        else `Lost` if the token (of a run: the worker's lease) no longer stands.

        A workflow lease that ran out but was not taken by another is renewed.
        """
        ...

    async def release(self, leases: Sequence[Lease]) -> Answer[Accepted | Lost | Busy]:
        """Give back what was claimed and not begun: ready again at once, and the claim is not counted."""
        ...

    async def close_done(self, closings: Sequence[Closing]) -> Answer[Accepted]:
        """These ended runs have no more children to close (judged anew: one with unfinished children stays)."""
        ...

    async def claim_questions(self, claimant: Claimant, limit: int) -> Answer[AskedTask]:
        """Hand out unanswered questions about runs (in any state, on any queue) of the claimant's definitions.

        Each goes to one worker at a time; without an answer it comes again when the lease has run out.
        """
        ...

    async def answer(self, replies: Sequence[Reply]) -> Answer[Accepted | Lost]:
        """Answer questions; `Lost` for one that is unknown, was answered before, or has run out."""
        ...


class ClientStore(Protocol):
    """What a client needs."""

    async def create(
        self, instances: Sequence[NewInstance]
    ) -> Answer[Created | Existing | Taken | Refused | Busy]:
        """Make runs. At most one unfinished run per instance id, whoever races; see `NewInstance`.

        A finished run whose id is used again stays readable by its run id; its remembered message keys go.
        """
        ...

    async def send(self, messages: Sequence[NewMessage]) -> Answer[Verdict]:
        """Put messages into inboxes: `Accepted`, `NotFound`, `Finished`, `Full`, `Busy` or `Refused` each.

        A key that was seen before is `Accepted` in any state of the run.
        """
        ...

    async def get(self, refs: Sequence[InstanceRef]) -> Answer[InstanceView | None]:
        """Look up runs; without ``run_id`` the current (latest) run of the id."""
        ...

    async def change(self, changes: Sequence[Change]) -> Answer[Verdict]:
        """Pause, resume, end, stall: `Accepted` (also when it is so already), `NotFound`, `Finished`, `Lost`, `Busy`.

        A repeated `End` with the same token is `Accepted`. `End` and `Stall` of a run that is not the current
        one: `Finished`.
        """
        ...

    async def ask(self, questions: Sequence[Question]) -> Answer[Ticket | NotFound]:
        """Put questions; a question id seen before gives its ticket again."""
        ...

    async def replies(self, tickets: Sequence[Ticket]) -> Answer[Reply | None]:
        """Look up answers; they are kept for at least ten minutes (of updates: as long as the id lives)."""
        ...


class AdminStore(Protocol):
    """What operators need."""

    async def migrate(self) -> Answer[None]:
        """Make or bring up to date whatever the store keeps its data in. Safe when two start together."""
        ...

    async def find(self, filter: Filter) -> Answer[InstanceView]:
        """List runs, a page at a time."""
        ...

    async def children(self, ref: InstanceRef, limit: int) -> Answer[InstanceView]:
        """The runs whose parent is this run (or any run of the id), oldest first, later runs of a child too."""
        ...

    async def delete(self, refs: Sequence[InstanceRef]) -> Answer[Verdict]:
        """Forget finished runs and all that belongs to them: `Accepted`, `NotFound`, `Unfinished`, `Busy`.

        Without ``run_id``: the instance with all its runs and remembered keys.
        """
        ...

    async def purge(self, purge: Purge) -> Answer[InstanceRef]:
        """Forget old finished runs, one bounded batch; says which."""
        ...

    async def stats(self) -> Stats:
        """Count."""
        ...

    async def audit(self, *, repair: bool = False) -> Answer[Finding]:
        """Look for broken invariants over the whole store; with ``repair`` mend what can be mended.

        A healthy store has none: a run that waits for nothing that can be seen may wait for a signal.
        """
        ...

    async def holdings(self, refs: Sequence[InstanceRef]) -> Answer[Holdings | None]:
        """What the store holds of runs beside their histories; ``None`` for one that is not there or has ended.

        Without ``run_id``: of the current run. Each is as of one moment. It only reads, and is asked for a hundred
        at a time, beside live work: the engine compares it with what their histories say that they wait for.
        """
        ...

    async def hold_role(self, role: str, worker_id: str, lease_us: int) -> bool:
        """Take or keep a role that one worker at a time may have; ``False`` if another holds it."""
        ...

    async def claim_outbox(self, claimant: Claimant, limit: int) -> Answer[OutboxEvent]:
        """Hand out unpublished events, in order per run."""
        ...

    async def finish_outbox(self, ids: Sequence[str]) -> Answer[Accepted]:
        """These events were published."""
        ...


class ActivityTransaction(Protocol):
    """A transaction on the store's database that an activity writes in. ``connection`` is the driver's."""

    connection: Any

    async def finish(self, outcome: ActivityFinished) -> Verdict:
        """Write the outcome in the same transaction and commit: `Accepted`, or `Lost` (then all is rolled back)."""
        ...

    async def rollback(self) -> None:
        """Undo everything; harmless after `finish`."""
        ...


class TransactionStore(Protocol):
    """Optional, for stores whose data can be written in a transaction of the caller's.

    Nothing is leased, cached or answered from memory there, and waiting for a lock is limited to 5 s (`BackendError`).
    """

    async def create_in(
        self, connection: Any, instance: NewInstance
    ) -> Answer[Created | Existing | Taken | Refused]:
        """Like `ClientStore.create` of one, in the open transaction of ``connection``; the caller commits.

        Raises ``TypeError`` for a connection of another driver, `BackendError` for one that is to another database.
        """
        ...

    async def send_in(self, connection: Any, message: NewMessage) -> Answer[Verdict]:
        """Like `ClientStore.send` of one, in the open transaction of ``connection``. Raises like `create_in`."""
        ...

    async def begin(self, ref: ActivityRef, token: str) -> ActivityTransaction:
        """Open a transaction for an attempt. Raises `BackendError` if its token no longer stands."""
        ...


class Backend(WorkerStore, ClientStore, AdminStore, Protocol):
    """A store. ``bell`` is rung when it writes (or hears) something that others may wait for.

    Rings for runs that ended here carry the ids of their instances (`Bell.ring`): else every client that waits looks
    at all that it waits for whenever one run ends. What was heard from elsewhere may come without ids.

    ``url`` is the address without password, for messages.
    """

    bell: Bell
    url: str

    async def close(self) -> None:
        """Let go of connections, threads and files. Calls that are under way end first."""
        ...


class OpenStore(Protocol):
    """What a store's entry point in the group ``durable.backends`` is: opens the store that a URL names.

    ``settings`` are the arguments of ``connect`` that the URL does not carry. Unknown URL options raise ``ValueError``;
    a store that cannot be reached or used raises `BackendError` with one line that names the URL without its
    password.
    """

    async def __call__(self, url: str, **settings: Any) -> Backend: ...
