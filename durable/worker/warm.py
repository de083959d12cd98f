"""A run in a worker's memory, with what the worker must know to go on with it."""

from __future__ import annotations

from dataclasses import field
from typing import NamedTuple

from durable.backends.records import (
    Absorbed,
    ActivityFinished,
    Checkpoint,
    Head,
    HeldLease,
    Message,
    NewActivity,
    WorkflowTask,
)
from durable.core.commands import Command, ScheduleActivity
from durable.core.events import Event, Input
from durable.core.light_records import dataclass
from durable.core.replay import Outcome, Run


class LocalResult(NamedTuple):
    """An activity of this run that ended on this very worker: the input that it is, and its row to be absorbed."""

    input: Input
    absorbed: Absorbed
    outcome: ActivityFinished
    """What to tell the store instead, should the run be lost."""


class Owed(NamedTuple):
    """Activities that were asked for, and are not written yet."""

    events: tuple[Event, ...]
    commands: tuple[Command, ...]


@dataclass(frozen=False, slots=True, kw_only=True)
class WarmRun:
    """``head`` is the last one that the store accepted. ``busy``: a step runs, or its checkpoint is on its way."""

    task: WorkflowTask
    run: Run
    head: Head
    history_bytes: int
    """As stored, up to ``head``."""
    seen: int
    claims: int
    """How often it was claimed since its last checkpoint."""
    busy: bool = False
    ending: bool = False
    """The checkpoint that is on its way ends the run."""
    local: set[int] = field(default_factory=set)
    """The numbers of its activities that run here."""
    rowless: dict[int, HeldLease] = field(default_factory=dict)
    """Those of them that have no row, with the lease that the row would be born with."""
    owed: Owed | None = None
    """What was kept back from the last checkpoint: it comes first in the next one."""
    results: list[LocalResult] = field(default_factory=list)  # an empty deque takes 760 bytes
    unwritten: list[Piece] = field(default_factory=list)
    """What a step led to beyond the checkpoint that is on its way."""
    later: WorkflowTask | None = None
    """A newer claim that came while the run was busy."""

    @property
    def run_id(self) -> str:
        return self.task.run_id


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """What one step of a warm run took in, kept until its checkpoint is judged."""

    messages: tuple[Message, ...] = ()
    results: tuple[LocalResult, ...] = ()

    @property
    def numbers(self) -> set[int]:
        """Of the activities whose results they are."""
        return {result.absorbed.number for result in self.results}


NOTHING_TAKEN = Taken()


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """A checkpoint on its way, and what its verdict decides about."""

    checkpoint: Checkpoint
    taken: Taken
    outcome: Outcome
    kept: tuple[ScheduleActivity, ...] = ()
    """Activities that start without a row when it is accepted."""
    here: tuple[NewActivity, ...] = ()
    """Activities that start here, with a row, when it is accepted."""
    cancelled: frozenset[int] = frozenset()
    """Activities that the run wants no more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """What one checkpoint is made of: an outcome, its input, the messages that it uses up, up to which all is seen."""

    outcome: Outcome
    taken: Taken
    consumed: tuple[int, ...]
    seen: int
