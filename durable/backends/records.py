"""The frozen records that cross the border between the engine and a store.

They hold plain data only: texts, numbers, bytes and each other. A store never looks inside ``events``,
``payload``, ``options`` or a message's ``body``, and never makes an id: run ids, keys and tokens are minted
by the caller, so that a call whose reply was lost can be repeated and has the effect of one.

Times are integers, microseconds since the Unix epoch by the *store's* clock (``*_us``). Durations are
microseconds too.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Generic, Literal, TypeVar

from durable.core.light_records import dataclass

PARTS = 64
"""Into how many parts instances are hashed. Fixed for ever: it is part of every primary key."""

MAX_ID_BYTES = 512
MAX_UNREAD_MESSAGES = 100_000
MAX_MESSAGES_PER_TASK = 1_000
MAX_CLAIMS = 10
MAX_TAGS = 64
MAX_CHECKPOINT_BYTES = 8 * 1024 * 1024
"""Events, payloads, options, bodies and values of one checkpoint together, as `limits.checkpoint_bytes` counts them."""

State = Literal[
    "running", "paused", "stalled", "completed", "failed", "cancelled", "terminated", "continued_as_new"
]
OPEN_STATES: frozenset[State] = frozenset({"running", "paused", "stalled"})
CLOSED_STATES: frozenset[State] = frozenset(
    {"completed", "failed", "cancelled", "terminated", "continued_as_new"}
)
ParentClose = Literal["terminate", "cancel", "abandon"]

T_co = TypeVar("T_co", covariant=True)


def part_of(instance_id: str) -> int:
    """The part (0 to 63) of an instance: the same on every machine, for ever."""
    return zlib.crc32(instance_id.encode()) % PARTS


# --- answers -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer(Generic[T_co]):
    """What every call gives: one item per request, in the order of the requests, and the store's time.

    ``next_wake_us`` is set by claims: when the next piece of work that this claimant could take becomes ready
    (``None``: nothing is known to be coming).
    """

    now_us: int
    items: Sequence[T_co]
    next_wake_us: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """Done, and durable. ``unread``: the instance has messages that this checkpoint had not seen."""

    unread: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Paused:
    """Done, and durable; but the instance was paused meanwhile, so the worker drops the run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lost:
    """Nothing was written: the head, token or lease that the request named no longer stands."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancelled:
    """The activity was withdrawn, or its run has ended: stop working on it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Extended:
    """The lease now ends ``lease_us`` after the answer's ``now_us``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MoreMessages:
    """Nothing was written: the checkpoint closes the run, but these messages have not been seen by it."""

    messages: tuple[Message, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TooEarly:
    """Nothing was written: the checkpoint fired a timer that is not due by the store's clock."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Busy:
    """Nothing was written: somebody else holds one of the rows; ask again with the next batch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """Nothing was written: the store refused this very item, and says why (one line)."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NotFound:
    """There is no such instance or run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """The run has ended; ``state`` says how."""

    state: State


@dataclass(frozen=True, slots=True, kw_only=True)
class Unfinished:
    """The request needs a run that has ended; this one has not."""

    state: State


@dataclass(frozen=True, slots=True, kw_only=True)
class Full:
    """The instance already has 100,000 unread messages."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Created:
    """The run exists now, as asked (also when it was made by an earlier call with the same run id)."""

    run_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Existing:
    """``if_exists="use"``: the unfinished run of the same workflow that holds the id."""

    run_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """Nothing was written: an unfinished run holds the id."""

    run_id: str
    workflow: str
    state: State


# --- what identifies -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """The fence of a run: the number of its last event, and a random token drawn by whoever wrote it."""

    number: int
    token: str


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceRef:
    """An instance (its current run), or exactly one run of it."""

    instance_id: str
    run_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ActivityRef:
    """An activity task: the run that scheduled it, and the number of the command that did."""

    instance_id: str
    run_id: str
    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    """A workflow that a worker has the code for. ``build`` tells one code from another."""

    workflow: str
    version: str = ""
    build: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimant:
    """Who claims: a worker, the queues it serves and the code it has.

    ``worker_id`` is random for each start of a process. ``token`` is drawn anew for every claim; it becomes
    the token of the attempts that the claim hands out. Leases end ``lease_us`` after the store's time. A
    claim that is repeated with its token (the reply was lost) gets what it was handed once more, as long as
    nothing else happened to it; that is not counted again.
    """

    worker_id: str
    token: str
    lease_us: int
    queues: tuple[str, ...]
    workflows: tuple[Definition, ...] = ()
    activities: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldLease:
    """A lease that a row is born with, because its writer goes on working on it."""

    worker_id: str
    token: str
    lease_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowLease:
    """A claimed workflow task, to be extended or released."""

    instance_id: str
    run_id: str
    worker_id: str
    lease_us: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ActivityLease:
    """A claimed activity task, to be extended or released. ``details`` (if not ``None``) is stored as its heartbeat."""

    ref: ActivityRef
    token: str
    lease_us: int = 0
    details: str | None = None


Lease = WorkflowLease | ActivityLease


# --- messages ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class NewMessage:
    """Something to be put into an instance's inbox.

    With ``run_id`` it is for that run only, and dropped when the run is over; without, for the current run,
    whoever that is. ``key`` makes a repeated send harmless: it is remembered after the message was consumed,
    until the id is purged or used anew.
    """

    instance_id: str
    key: str
    kind: str
    body: str
    run_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A row of an inbox. ``number`` counts the messages ever sent to the instance, from 1, in order of arrival."""

    number: int
    key: str
    kind: str
    body: str
    sent_at_us: int


OUTCOME = "outcome"
"""The kind of the message by which a store answers `Send.number` and `StartChild.number`."""

ACTIVITY_RESULT_KINDS = ("activity_completed", "activity_failed")
CHILD_CLOSED = "child_closed"
ANSWER_KINDS = (*ACTIVITY_RESULT_KINDS, CHILD_CLOSED, OUTCOME)
"""The kinds of messages that answer what a run asked for. Nobody but the engine and the store sends them."""

OutcomeWord = Literal["delivered", "not_found", "finished", "full", "started", "taken"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Send:
    """A checkpoint's message to another instance (or to itself).

    Its outcome comes back to the sender's run as a message of kind ``outcome``, key
    ``outcome/<run id>/<number>``, with the body ``"<number> <word>"``: the words are ``delivered``,
    ``not_found``, ``finished`` and ``full``.
    """

    message: NewMessage
    number: int


# --- instances -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Parent:
    """Whose child a run is: the parent's run, the number of the command that started it, the close policy."""

    instance_id: str
    run_id: str
    number: int
    close: ParentClose = "terminate"


@dataclass(frozen=True, slots=True, kw_only=True)
class Close:
    """How a run ends.

    ``result`` (of ``completed``) and ``failure`` (of ``failed``, ``cancelled``, ``terminated``) are texts for
    the client. ``parent_body`` is the body of the message of kind ``child_closed`` that goes to the parent's
    run, if the run has a parent (key: ``closed/<run id of the child>``).
    """

    state: State
    result: str | None = None
    failure: str | None = None
    parent_body: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NewInstance:
    """A run to be made.

    ``events`` are its first events (at least one) and ``head`` is its head after them. ``start_at_us`` delays
    it; ``timeout_us`` is counted from now and covers all later runs of the instance (the store hands the
    limit on). ``messages`` are put into the inbox in the same step, also when ``if_exists="use"`` finds a
    run. ``replaces`` says how a run that ``if_exists="replace"`` finds ends, and with which last event.
    ``lease``: born claimed.
    """

    instance_id: str
    run_id: str
    workflow: str
    queue: str
    events: tuple[bytes, ...]
    head: Head
    version: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    parent: Parent | None = None
    if_exists: Literal["fail", "use", "replace"] = "fail"
    replaces: End | None = None
    start_at_us: int | None = None
    timeout_us: int | None = None
    messages: tuple[NewMessage, ...] = ()
    lease: HeldLease | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StartChild:
    """A checkpoint's new instance.

    The outcome comes back like that of a `Send`, with the body ``"<number> started"`` or
    ``"<number> taken"``.
    """

    instance: NewInstance
    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Why a run is stalled: ``report`` is text (JSON) for people and tools, ``build`` the code that met it."""

    report: str
    build: str
    stalls: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceView:
    """A run as a client sees it."""

    instance_id: str
    run_id: str
    workflow: str
    version: str
    queue: str
    state: State
    status: str | None
    tags: Mapping[str, str]
    vars: Mapping[str, str]
    parent: Parent | None
    head: Head
    history_bytes: int
    created_at_us: int
    updated_at_us: int
    closed_at_us: int | None
    start_at_us: int | None
    deadline_us: int | None
    result: str | None
    failure: str | None
    problem: Problem | None
    reason: str | None
    next_run_id: str | None
    first_run_id: str


# --- workflow tasks ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowTask:
    """One claimed slice of progress: the run, its head, and what has arrived.

    At most 1,000 messages are handed out at once, oldest first; ``seen`` is the number of the last message
    that the instance had been sent when the claim was made and that is included here or was consumed before
    (a checkpoint hands it back). ``claims`` counts this claim: 1 if the last one ended in an accepted
    checkpoint. ``events`` is the whole history up to ``head``, as `WorkerStore.read_history` would give it;
    ``None``: ask for it.
    """

    instance_id: str
    run_id: str
    workflow: str
    version: str
    queue: str
    state: State
    head: Head
    history_bytes: int
    messages: tuple[Message, ...]
    seen: int
    claims: int
    parent: Parent | None
    wake_at_us: int | None
    deadline_us: int | None = None
    first_run_id: str = ""
    events: tuple[bytes, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Overdue:
    """An unfinished run whose instance's deadline has passed; it is to be ended by `End`. Needs no code."""

    instance_id: str
    run_id: str
    workflow: str
    deadline_us: int
    parent: Parent | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Closing:
    """An ended (or continued) run with unfinished children, not abandoned: up to 100 of them, oldest first.

    A child with ``close="cancel"`` needs nothing more, and is not listed, once its instance was sent a
    message with the key ``close/<run id of the parent>`` (the engine sends it, of kind ``cancel``). When all
    of them have ended or were asked to, the claimant says `close_done`; until then the row comes back.
    """

    instance_id: str
    run_id: str
    children: tuple[ChildRef, ...]
    more: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildRef:
    """An unfinished child and the policy that its parent's end means for it."""

    instance_id: str
    run_id: str
    close: ParentClose


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryRange:
    """The events of a run after number ``after``."""

    instance_id: str
    run_id: str
    after: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class HistorySlice:
    """The events ``after + 1`` ... as they were written; empty if there are none (or no such run)."""

    instance_id: str
    run_id: str
    after: int
    events: tuple[bytes, ...]


# --- activity tasks ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class NewActivity:
    """An activity task to be made. ``options`` is the engine's text; the store only hands it back.

    ``queue_timeout_us``: when nobody has claimed its first attempt by then, any worker is handed it as
    ``expired``.
    """

    number: int
    name: str
    queue: str
    payload: str
    options: str
    queue_timeout_us: int | None = None
    lease: HeldLease | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ActivityTask:
    """One claimed attempt.

    ``attempt`` is counted by the engine (from 1), ``deliveries`` by the store: how often this attempt was
    handed out, this time included. ``details`` is the last stored heartbeat, ``failure`` what the attempt
    before raised.
    """

    ref: ActivityRef
    name: str
    queue: str
    workflow: str
    payload: str
    options: str
    attempt: int
    deliveries: int
    token: str
    scheduled_at_us: int
    details: str | None = None
    failure: str | None = None
    expired: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ActivityFinished:
    """The activity is over: its row goes, and a message of ``kind`` with ``body`` goes to its run.

    Its key is ``activity/<run id>/<number>``. Results of activities and children are never `Full`.
    """

    ref: ActivityRef
    token: str
    kind: str
    body: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ActivityRetry:
    """The attempt failed: the next one may be claimed after ``delay_us``. ``failure`` is kept for it."""

    ref: ActivityRef
    token: str
    delay_us: int
    failure: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ActivityParked:
    """The activity will be finished from elsewhere, by whoever names ``new_token``.

    It is not handed out again before ``timeout_us`` have passed (``None``: never); then it comes as
    ``expired``.
    """

    ref: ActivityRef
    token: str
    new_token: str
    timeout_us: int | None = None


ActivityOutcome = ActivityFinished | ActivityRetry | ActivityParked


@dataclass(frozen=True, slots=True, kw_only=True)
class Absorbed:
    """An activity whose result is among the events of a checkpoint: its row goes, if the token still stands."""

    number: int
    token: str


# --- checkpoints ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboxEvent:
    """An event for the outside world. ``id`` is stable: the run id and a number."""

    id: str
    topic: str
    payload: str
    key: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """What a workflow task writes, all or nothing.

    It is accepted only if the run's head is still ``head``, all ``absorbed`` tokens stand and no timer was
    fired early; a repeated checkpoint (the run's head is already ``new_head``) is answered like the first.
    ``consumed`` are the numbers of the messages that became events; ``seen`` the highest number that was
    looked at. ``status`` of ``None`` and ``vars`` not named stay as they are; ``wake_at_us``, the next due
    time of a timer, is set anew each time. The new head differs from the old, and its number is that of the
    last of ``events``. ``close`` ends the run; with ``next_run`` it is followed by another run of the same
    instance, which inherits parent, deadline, tags, vars, status, keys and the messages not consumed.
    ``lease`` keeps the run with its worker; without, the lease ends.
    """

    instance_id: str
    run_id: str
    head: Head
    new_head: Head
    events: tuple[bytes, ...]
    consumed: tuple[int, ...] = ()
    seen: int = 0
    activities: tuple[NewActivity, ...] = ()
    withdrawn: tuple[int, ...] = ()
    absorbed: tuple[Absorbed, ...] = ()
    sends: tuple[Send, ...] = ()
    children: tuple[StartChild, ...] = ()
    outbox: tuple[OutboxEvent, ...] = ()
    replies: tuple[Reply, ...] = ()
    status: str | None = None
    vars: Mapping[str, str] = field(default_factory=dict)
    wake_at_us: int | None = None
    fired_until_us: int | None = None
    close: Close | None = None
    next_run: NewInstance | None = None
    lease: HeldLease | None = None


# --- changes by people ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Pause:
    """Stop handing out work of this instance; what runs may finish."""

    ref: InstanceRef
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Resume:
    """Undo `Pause`; also makes a stalled run be tried again."""

    ref: InstanceRef


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """Close a run from outside (terminate, time-out): draws a new token, appends ``event``, needs no code."""

    ref: InstanceRef
    event: bytes
    token: str
    close: Close
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Stall:
    """Park a run that its worker cannot go on with, if its head still stands. Writes nothing into the history.

    It is tried again by workers of another build, and by any when ``retry_after_us`` (a duration, counted
    from the store's time of this change) has passed.
    """

    ref: InstanceRef
    head: Head
    problem: Problem
    retry_after_us: int


Change = Pause | Resume | End | Stall


# --- questions (queries and updates) -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A query: to be answered by any worker that has the code, within ``timeout_us``; never written to the history."""

    id: str
    ref: InstanceRef
    name: str
    body: str
    timeout_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticket:
    """What `ask` gives back, to be looked up with `replies`."""

    id: str
    instance_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """The answer to a question (``id`` is the question's) or to an update (``id`` is the update's key)."""

    id: str
    instance_id: str
    body: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedTask:
    """A claimed question, with what is needed to replay its run."""

    question_id: str
    name: str
    body: str
    instance_id: str
    run_id: str
    workflow: str
    version: str
    head: Head


# --- looking around ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which runs a list shows; every field that is set must match (``tags``: as a subset).

    Order is by creation time and run id; ``cursor`` is the (created_at_us, run_id) of the last one shown.
    """

    workflow: str | None = None
    status: tuple[str, ...] = ()
    states: tuple[State, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
    created_after_us: int | None = None
    newest_first: bool = True
    cursor: tuple[int, str] | None = None
    limit: int = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Purge:
    """Which finished runs to forget: closed before a time, in these states, at most ``limit`` of them."""

    closed_before_us: int
    states: tuple[State, ...] = ("completed", "failed", "cancelled", "terminated", "continued_as_new")
    limit: int = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Stats:
    """Counts: instances by state (current runs), activity tasks and ready workflow tasks by queue, outbox backlog."""

    instances: Mapping[str, int]
    activity_tasks: Mapping[str, int]
    workflow_tasks: Mapping[str, int]
    outbox: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Holdings:
    """What a store holds of an unfinished run beside its history: all that can make it go on without people.

    ``seen`` is the number of the last message that a checkpoint looked at, ``wake_at_us`` what the last checkpoint set.
    ``ready_at_us`` is since or from when there is something to do (``None``: nobody knows of anything),
    ``lease_until_us`` the end of the lease of whoever has it, run out or not (``None``: nobody has it).
    ``activities`` are the numbers of its activity rows, rising; ``answers`` the keys of its unread messages of the
    `ANSWER_KINDS`, oldest first.
    """

    instance_id: str
    run_id: str
    state: State
    head: Head
    seen: int
    wake_at_us: int | None
    ready_at_us: int | None
    lease_until_us: int | None
    activities: tuple[int, ...]
    answers: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A broken structural invariant. ``rule`` names it (``"I2 gap-free"``); ``repairable``: `audit` can mend it."""

    rule: str
    instance_id: str
    run_id: str | None
    detail: str
    repairable: bool = False
    repaired: bool = False


Verdict = (
    Accepted
    | Paused
    | Lost
    | MoreMessages
    | TooEarly
    | Busy
    | Refused
    | NotFound
    | Finished
    | Unfinished
    | Full
)
