"""The rows that are judged, as records that can be changed, and the columns that are derived from other columns.

A row's field names are its column names, in the order of the table. Derived are the columns by which claims find
work (``claimable_at_us``, ``retryable_at_us``, ``overdue_at_us``, ``expirable_at_us``): `RunRow.settle` and
`ActivityRow.settle` are the only places that set them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from operator import attrgetter
from typing import Any, Literal, cast

from durable.backends.records import (
    OPEN_STATES,
    ActivityRef,
    ActivityTask,
    Head,
    InstanceView,
    Parent,
    ParentClose,
    Problem,
    State,
)


@dataclass(slots=True)
class RunRow:
    """A run: the current one of an instance (table ``instances``), or an earlier one (``past_runs``)."""

    part: int
    instance_id: str
    run_id: str
    workflow: str
    version: str
    queue: str
    state: State
    status: str | None
    tags: str
    vars: str
    parent_id: str | None
    parent_run_id: str | None
    parent_number: int | None
    parent_close: str | None
    head_number: int
    head_token: str
    history_bytes: int
    sent: int
    seen: int
    children: int
    ready_at_us: int | None
    wake_at_us: int | None
    claims: int
    lease_owner: str | None
    lease_until_us: int | None
    claim_token: str | None
    claimable_at_us: int | None
    start_at_us: int | None
    deadline_us: int | None
    overdue_at_us: int | None
    created_at_us: int
    updated_at_us: int
    closed_at_us: int | None
    result: str | None
    failure: str | None
    reason: str | None
    problem: str | None
    problem_build: str | None
    problem_stalls: int | None
    retry_at_us: int | None
    retryable_at_us: int | None
    next_run_id: str | None
    first_run_id: str

    @property
    def open(self) -> bool:
        """Whether the run is unfinished."""
        return self.state in OPEN_STATES

    @property
    def head(self) -> Head:
        """The fence."""
        return Head(number=self.head_number, token=self.head_token)

    @property
    def parent(self) -> Parent | None:
        """Whose child it is."""
        if self.parent_id is None or self.parent_run_id is None:
            return None
        close = cast(ParentClose, self.parent_close or "terminate")
        number = self.parent_number or 0
        return Parent(instance_id=self.parent_id, run_id=self.parent_run_id, number=number, close=close)

    def become_ready(self, at_us: int) -> None:
        """There is something to do from ``at_us`` on; what was ready before stays so."""
        if self.ready_at_us is None or at_us < self.ready_at_us:
            self.ready_at_us = at_us
        self.settle()

    def unlease(self) -> None:
        """Nobody works on it."""
        self.lease_owner = self.lease_until_us = self.claim_token = None

    def settle(self) -> None:
        """Set what claims look for. A leased run is for others when its lease has run out, whatever it waits for."""
        state = self.state
        leased = self.lease_until_us if self.lease_owner is not None else None
        self.claimable_at_us = (
            (self.ready_at_us if leased is None else leased) if state == "running" else None
        )
        self.retryable_at_us = max(self.retry_at_us or 0, leased or 0) if state == "stalled" else None
        if state not in OPEN_STATES:
            self.ready_at_us = self.overdue_at_us = None

    def view(self) -> InstanceView:
        """As a client sees it. A row whose tags or variables are broken shows none, and a problem that says so."""
        tags, tags_problem = _mapping("tags", self.tags)
        variables, vars_problem = _mapping("vars", self.vars)
        problem = None
        if self.problem is not None:
            problem = Problem(
                report=self.problem, build=self.problem_build or "", stalls=self.problem_stalls or 1
            )
        elif broken := tags_problem or vars_problem:
            problem = Problem(report=json.dumps({"unreadable": broken}), build="")
        return InstanceView(
            instance_id=self.instance_id,
            run_id=self.run_id,
            workflow=self.workflow,
            version=self.version,
            queue=self.queue,
            state=self.state,
            status=self.status,
            tags=tags,
            vars=variables,
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
            problem=problem,
            reason=self.reason,
            next_run_id=self.next_run_id,
            first_run_id=self.first_run_id,
        )


@dataclass(slots=True)
class ActivityRow:
    """An activity task (table ``activities``)."""

    part: int
    run_id: str
    number: int
    instance_id: str
    workflow: str
    name: str
    queue: str
    payload: str
    options: str
    scheduled_at_us: int
    due_at_us: int
    attempt: int
    deliveries: int
    token: str | None
    lease_until_us: int | None
    details: str | None
    failure: str | None
    expires_at_us: int | None
    parked: int
    expired: int
    held: int
    claimable_at_us: int | None
    expirable_at_us: int | None

    @property
    def ref(self) -> ActivityRef:
        """What it is called."""
        return ActivityRef(instance_id=self.instance_id, run_id=self.run_id, number=self.number)

    def settle(self) -> None:
        """Set what claims look for."""
        leased = self.lease_until_us or 0
        waits = self.parked or self.expired
        claimable = None if waits else max(self.due_at_us, leased)
        # Only a first attempt that nobody has had can run out in the queue.
        limited = waits or (self.attempt == 1 and self.deliveries == 0)
        expirable = max(self.expires_at_us, leased) if limited and self.expires_at_us is not None else None
        self.claimable_at_us = None if self.held else claimable
        self.expirable_at_us = None if self.held else expirable

    def task(self, token: str, *, expired: bool) -> ActivityTask:
        """As a worker is handed it."""
        return ActivityTask(
            ref=self.ref,
            name=self.name,
            queue=self.queue,
            workflow=self.workflow,
            payload=self.payload,
            options=self.options,
            attempt=self.attempt,
            deliveries=self.deliveries,
            token=token,
            scheduled_at_us=self.scheduled_at_us,
            details=self.details,
            failure=self.failure,
            expired=expired,
        )


@dataclass(slots=True, frozen=True)
class InboxRow:
    """A message (table ``inbox``)."""

    part: int
    instance_id: str
    number: int
    run_id: str | None
    key: str
    kind: str
    body: str
    sent_at_us: int


RowKind = Literal["run", "activity"]

RUN_COLUMNS: tuple[str, ...] = tuple(field.name for field in fields(RunRow))
ACTIVITY_COLUMNS: tuple[str, ...] = tuple(field.name for field in fields(ActivityRow))
INBOX_COLUMNS: tuple[str, ...] = tuple(field.name for field in fields(InboxRow))

run_values: attrgetter[tuple[Any, ...]] = attrgetter(*RUN_COLUMNS)
"""The values of a `RunRow`, in the order of the columns."""

activity_values: attrgetter[tuple[Any, ...]] = attrgetter(*ACTIVITY_COLUMNS)
inbox_values: attrgetter[tuple[Any, ...]] = attrgetter(*INBOX_COLUMNS)


def dump_mapping(mapping: Mapping[str, str]) -> str:
    """Texts by name, as they are kept in a row."""
    return json.dumps(dict(mapping), ensure_ascii=False) if mapping else "{}"


def load_mapping(text: str) -> dict[str, str]:
    """The reverse of `dump_mapping`; empty for what cannot be read."""
    return _mapping("", text)[0]


def _mapping(what: str, text: str) -> tuple[dict[str, str], str | None]:
    if text == "{}":
        return {}, None
    try:
        found = json.loads(text)
    except ValueError as error:
        return {}, f"{what}: {error}"
    if isinstance(found, dict) and all(isinstance(value, str) for value in found.values()):
        return found, None
    return {}, f"{what}: not a JSON object of texts"
