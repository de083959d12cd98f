"""Time travel: a run at each of its events, forwards and backwards. Nothing is executed or written.

A stop is behind all that an event led to. Backwards means: replay anew, up to the stop before.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from durable.core import guards
from durable.core.context import RunIdentity
from durable.core.events import Event
from durable.core.failure import known_exceptions
from durable.core.history import turns
from durable.core.payload import MAX_PAYLOAD_BYTES, Codec, Converter, PlainCodec
from durable.core.replay import Run
from durable.primitives.workflow import Workflow
from durable.testing.replayer import _recorded


class TimeTravel:
    """``history`` is what `durable.testing.replay` takes. ``number`` is the event it has come to: 0 at the beginning.

    Raises like `replay` for what is no history.
    """

    def __init__(self, workflow: Workflow[..., Any], history: Any, *, codec: Codec | None = None) -> None:
        unknown = RunIdentity(instance_id="replayed", run_id="replayed", first_run_id="replayed")
        recorded = _recorded(history, unknown)
        if recorded.workflow != workflow.definition.name:
            raise ValueError(
                f"this is a history of workflow {recorded.workflow!r}, not of {workflow.definition.name!r}"
            )
        self.history: Sequence[Event] = recorded.events
        self.identity = recorded.identity
        # What nobody has worked on yet ends with an input that was not applied.
        not_begun = recorded.begun is False or (recorded.begun is None and len(recorded.events) == 1)
        self._applied = recorded.events[:-1] if not_begun else recorded.events
        self._open_ended = recorded.open_ended
        self.stops = (
            [turn.number + len(turn.decisions) for turn in turns(self._applied)] if self._applied else [0]
        )
        self._workflow = workflow
        self._converter = Converter(codec=codec or PlainCodec(), max_payload_bytes=MAX_PAYLOAD_BYTES)
        guards.install()
        self._begin()

    def _begin(self) -> None:
        first: Any = self.history[0]
        self.run = Run(
            self._workflow.definition,
            self.identity,
            first,
            converter=self._converter,
            known=known_exceptions(),
            trace=True,
        )
        self._steps: Iterator[int] = self.run.retrace(self._applied, open_ended=self._open_ended)
        self.number = 0

    @property
    def is_at_end(self) -> bool:
        """Whether there is nothing further to go forward to."""
        return self.number == self.stops[-1]

    def forward(self) -> bool:
        """On to the next stop; ``False`` at the end. Raises `NonDeterminismError` where the code does otherwise."""
        if self.is_at_end:
            return False
        self.number = next(self._steps)
        return True

    def back(self) -> bool:
        """To the stop before; ``False`` at the beginning."""
        before = [stop for stop in self.stops if stop < self.number]
        if not before and self.number == 0:
            return False
        self.goto(before[-1] if before else 0)
        return True

    def goto(self, number: int) -> None:
        """To the stop behind this event. Raises ``ValueError`` for an event that is not there."""
        if not 0 <= number <= len(self.history):
            raise ValueError(f"there are events 1 to {len(self.history)}, and no {number}")
        if number < self.number:
            self.close()
            self._begin()
        while self.number < number and self.forward():
            pass

    def close(self) -> None:
        """Forget the run; its coroutines are closed."""
        self.run.drop()
