"""What new inputs led a run to, and how it is put together, turn by turn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field

from durable.core.commands import Command, EndOfRun, Publish
from durable.core.context import Step
from durable.core.events import Event, Input
from durable.core.light_records import blank, dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What new inputs led to: the events to append, the commands to carry out, and the fields of the record."""

    events: tuple[Event, ...]
    commands: tuple[Command, ...]
    vars: Mapping[str, str] = field(default_factory=dict)
    status: str | None = None
    published: tuple[Publish, ...] = ()
    end: EndOfRun | None = None
    wake_at_us: int | None = None
    fired_until_us: int | None = None
    left: tuple[Input, ...] = ()
    """Inputs that came behind the end: no code has seen them."""
    inputs: int = 0
    """How many of the given inputs, from the first on, it is made of."""
    further: tuple[Outcome, ...] = ()
    """What did not fit into the same checkpoint, to be written after it, in order."""


def put_before(events: tuple[Event, ...], commands: tuple[Command, ...], outcome: Outcome) -> Outcome:
    """The outcome with these in front. Written out: `dataclasses.replace` takes ten times as long, in each step."""
    made = blank(Outcome)
    made.events = events + outcome.events
    made.commands = commands + outcome.commands
    made.vars = outcome.vars
    made.status = outcome.status
    made.published = outcome.published
    made.end = outcome.end
    made.wake_at_us = outcome.wake_at_us
    made.fired_until_us = outcome.fired_until_us
    made.left = outcome.left
    made.inputs = outcome.inputs
    made.further = outcome.further
    return made  # type: ignore[no-any-return]


class Part:
    """An `Outcome` in the making: one turn, to which others are joined."""

    __slots__ = (
        "asked",
        "bytes",
        "end",
        "events",
        "fired_until_us",
        "inputs",
        "left",
        "published",
        "status",
        "vars",
    )

    def __init__(
        self,
        events: list[Event],
        asked: list[Command],
        step: Step,
        size: int,
        end: EndOfRun | None,
        fired_until_us: int | None,
    ) -> None:
        self.events = events
        self.asked = asked
        self.bytes = size
        self.end = end
        self.fired_until_us = fired_until_us
        self.vars: Mapping[str, str] = {} if step.vars is None else step.vars
        self.status = step.status
        self.published = () if step.published is None else tuple(step.published)
        self.left: tuple[Input, ...] = ()
        self.inputs = 0

    def join(self, turn: Part) -> None:
        """One more turn."""
        self.events += turn.events
        self.asked += turn.asked
        self.bytes += turn.bytes
        self.end = turn.end
        if turn.fired_until_us is not None:
            self.fired_until_us = max(self.fired_until_us or 0, turn.fired_until_us)
        if turn.vars:
            self.vars = {**self.vars, **turn.vars}
        self.status = turn.status or self.status
        self.published += turn.published

    def outcome(self, wake_at_us: int | None) -> Outcome:
        """What it came to."""
        made = blank(Outcome)
        made.events = tuple(self.events)
        made.commands = tuple(self.asked)
        made.vars = self.vars
        made.status = self.status
        made.published = self.published
        made.end = self.end
        made.wake_at_us = wake_at_us
        made.fired_until_us = self.fired_until_us
        made.left = self.left
        made.inputs = self.inputs
        made.further = ()
        return made  # type: ignore[no-any-return]
