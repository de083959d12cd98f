"""What the memory store keeps: one mutable row for each thing that an SQL store would have a table for.

No row leaves the store; what goes out are the frozen records of `durable.backends.records`, made anew.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from durable.backends.records import (
    OPEN_STATES,
    ActivityRef,
    Head,
    InstanceView,
    Message,
    NewActivity,
    OutboxEvent,
    Parent,
    Problem,
    Question,
    State,
)

RunKey = tuple[str, str]
"""Instance id, run id."""

ActivityKey = tuple[str, str, int]
"""Instance id, run id, number."""

QuestionKey = tuple[str, str]
"""Instance id, question id."""


@dataclass(slots=True, kw_only=True, eq=False)
class HeldBy:
    """Who has a row, and until when. A new claim is a new object; an extended one stays the same."""

    worker_id: str
    token: str
    until_us: int


@dataclass(slots=True, kw_only=True, eq=False)
class ActivityRow:
    """An activity that is not over. ``token`` is the one of the current attempt; ``""``: nobody has that yet."""

    ref: ActivityRef
    workflow: str
    new: NewActivity
    scheduled_at_us: int
    ready_at_us: int
    attempt: int = 1
    deliveries: int = 0
    token: str = ""
    lease: HeldBy | None = None
    details: str | None = None
    failure: str | None = None
    parked: bool = False
    parked_until_us: int | None = None
    expired: bool = False
    """It was handed out as expired, and is never again an ordinary attempt."""

    @property
    def expires_at_us(self) -> int | None:
        """When it is handed out as expired, if nothing happens: parked, or its first attempt not claimed by anybody."""
        limit_us = self.new.queue_timeout_us
        if self.parked or self.attempt > 1 or self.deliveries or limit_us is None:
            return self.parked_until_us
        return self.scheduled_at_us + limit_us

    @property
    def key(self) -> ActivityKey:
        return (self.ref.instance_id, self.ref.run_id, self.ref.number)


@dataclass(slots=True, kw_only=True, eq=False)
class RunRow:
    """One life of an instance.

    ``ready_at_us`` is when there is (or was) something to do for whoever has the run; a claim takes it in.
    ``seen`` is the number of the last message that an accepted checkpoint looked at.
    """

    instance_id: str
    run_id: str
    workflow: str
    version: str
    queue: str
    head: Head
    events: list[bytes]
    created_at_us: int
    updated_at_us: int
    first_run_id: str
    state: State = "running"
    status: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    vars: dict[str, str] = field(default_factory=dict)
    parent: Parent | None = None
    start_at_us: int | None = None
    deadline_us: int | None = None
    ready_at_us: int | None = None
    wake_at_us: int | None = None
    seen: int = 0
    claims: int = 0
    lease: HeldBy | None = None
    activities: dict[int, ActivityRow] = field(default_factory=dict)
    problem: Problem | None = None
    retry_at_us: int | None = None
    closed_at_us: int | None = None
    result: str | None = None
    failure: str | None = None
    reason: str | None = None
    next_run_id: str | None = None
    history_bytes: int = 0

    @property
    def key(self) -> RunKey:
        return (self.instance_id, self.run_id)

    @property
    def is_open(self) -> bool:
        return self.state in OPEN_STATES

    def append(self, events: tuple[bytes, ...], head: Head, now_us: int) -> None:
        """Add events; the head is the one after them."""
        self.events += events
        self.history_bytes += sum(map(len, events))
        self.head = head
        self.updated_at_us = now_us

    def view(self) -> InstanceView:
        """The run as a client sees it."""
        return InstanceView(
            instance_id=self.instance_id,
            run_id=self.run_id,
            workflow=self.workflow,
            version=self.version,
            queue=self.queue,
            state=self.state,
            status=self.status,
            tags=dict(self.tags),
            vars=dict(self.vars),
            parent=self.parent,
            head=self.head,
            history_bytes=self.history_bytes,
            created_at_us=self.created_at_us,
            updated_at_us=self.updated_at_us,
            closed_at_us=self.closed_at_us,
            start_at_us=self.start_at_us,
            deadline_us=self.deadline_us,
            result=self.result,
            failure=self.failure,
            problem=self.problem,
            reason=self.reason,
            next_run_id=self.next_run_id,
            first_run_id=self.first_run_id,
        )


@dataclass(slots=True, kw_only=True, eq=False)
class Unread:
    """A message that was not consumed; ``run_id``: it is for this run only."""

    message: Message
    run_id: str | None


@dataclass(slots=True, kw_only=True, eq=False)
class InstanceRow:
    """An id: its runs (the last one is the current), its inbox by number, and what was ever sent to it."""

    instance_id: str
    runs: dict[str, RunRow] = field(default_factory=dict)
    inbox: dict[int, Unread] = field(default_factory=dict)
    sent: int = 0
    keys: set[str] = field(default_factory=set)
    end_tokens: set[str] = field(default_factory=set)
    update_replies: dict[str, str] = field(default_factory=dict)

    @property
    def current(self) -> RunRow:
        return next(reversed(self.runs.values()))

    def unseen(self, seen: int) -> bool:
        """Whether the inbox holds a message beyond this number."""
        return next(reversed(self.inbox), 0) > seen


@dataclass(slots=True, kw_only=True, eq=False)
class QuestionRow:
    """A question, until ten minutes after it was answered or ran out. ``reply``: the answer's body."""

    question: Question
    expires_at_us: int
    lease: HeldBy | None = None
    reply: str | None = None


@dataclass(slots=True, kw_only=True, eq=False)
class BacklogRow:
    """The unpublished events of one run, in order. ``out``: ids that were handed out and not yet reported published."""

    events: dict[str, OutboxEvent] = field(default_factory=dict)
    out: set[str] = field(default_factory=set)
    lease: HeldBy | None = None
