"""A run in a worker's memory, with what the worker must know to go on with it."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import NamedTuple

from durable.backends.records import Absorbed, ActivityFinished, Head, Message, WorkflowTask
from durable.core.events import Input
from durable.core.replay import Outcome, Run


class LocalResult(NamedTuple):
    """An activity of this run that ended on this very worker: the input that it is, and its row to be absorbed."""

    input: Input
    absorbed: Absorbed
    outcome: ActivityFinished
    """What to tell the store instead, should the run be lost."""


@dataclass(slots=True, kw_only=True)
class WarmRun:
    """``head`` is the last one that the store accepted. ``busy``: a step runs, or its checkpoint is on its way."""

    task: WorkflowTask
    run: Run
    head: Head
    history_bytes: int
    """As stored, up to ``head``."""
    seen: int
    busy: bool = False
    local: set[int] = field(default_factory=set)
    """The numbers of its activities that run here."""
    results: deque[LocalResult] = field(default_factory=deque)
    unwritten: deque[Piece] = field(default_factory=deque)
    """What a step led to beyond the checkpoint that is on its way."""
    later: WorkflowTask | None = None
    """A newer claim that came while the run was busy."""

    @property
    def run_id(self) -> str:
        return self.task.run_id


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """What one step of a warm run took in, kept until its checkpoint is judged."""

    messages: tuple[Message, ...]
    results: tuple[LocalResult, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """What one checkpoint is made of: an outcome, its input, the messages that it uses up, up to which all is seen."""

    outcome: Outcome
    taken: Taken
    consumed: tuple[int, ...]
    seen: int
