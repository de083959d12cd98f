"""What a history says its run waits for: the commands that it holds without their answers.

Pure: events go in, nothing is read or replayed, and no workflow code is needed. What a run waits for beside that
(signals, updates, conditions) comes from people, and stands in no history before it has come.
"""

from __future__ import annotations

from collections.abc import MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from durable.core import events
from durable.core.events import ActivityScheduled, CancelSent, ChildScheduled, Event, SignalSent, TimerStarted
from durable.core.history import ENDINGS
from durable.core.messages import PARENT_CANCELLED


@dataclass(slots=True, kw_only=True)
class Unanswered:
    """Commands by number, as history remembers them.

    ``unstarted`` are children of which nobody has said yet that they exist; each of them is in ``children`` too, whose
    end has not come. ``twice`` are commands that were answered and answered again, or answered without having been
    issued; ``ending`` is the event that ended the run.
    """

    activities: dict[int, ActivityScheduled] = field(default_factory=dict)
    timers: dict[int, TimerStarted] = field(default_factory=dict)
    unstarted: dict[int, ChildScheduled] = field(default_factory=dict)
    children: dict[int, ChildScheduled] = field(default_factory=dict)
    sends: dict[int, SignalSent | CancelSent] = field(default_factory=dict)
    twice: list[int] = field(default_factory=list)
    ending: Event | None = None

    @property
    def wake_at_us(self) -> int | None:
        """When the first timer is due."""
        return min((timer.due_us for timer in self.timers.values()), default=None)

    def _take(self, event: Event) -> None:
        match event:
            case events.ActivityScheduled(number=number):
                self.activities[number] = event
            case events.TimerStarted(number=number):
                self.timers[number] = event
            case events.ChildScheduled(number=number):
                self.children[number] = self.unstarted[number] = event
            case events.CancelSent(reason=reason) if reason == PARENT_CANCELLED:
                pass  # sent on the run's behalf: nobody waits for its outcome, which leaves no event
            case events.SignalSent(number=number) | events.CancelSent(number=number):
                self.sends[number] = event
            case (
                events.ActivityCompleted(number=number)
                | events.ActivityFailed(number=number)
                | events.ActivityCancelled(number=number)
            ):
                self._answered(number, self.activities)
            case events.TimerFired(number=number) | events.TimerCancelled(number=number):
                self._answered(number, self.timers)
            case events.ChildStarted(number=number):
                self.unstarted.pop(number, None)  # no harm if told twice, as two audits at once may do
            case events.ChildRefused(number=number):
                self.unstarted.pop(number, None)
                self._answered(number, self.children)
            case events.ChildClosed(number=number):
                self._answered(number, self.children)
            case events.SendResolved(number=number):
                self._answered(number, self.sends)
            case _ if isinstance(event, ENDINGS):
                self.ending = event
            case _:
                pass

    def _answered(self, number: int, asked: MutableMapping[int, Any]) -> None:
        if asked.pop(number, None) is None:
            self.twice.append(number)


def unanswered(history: Sequence[Event]) -> Unanswered:
    """What the run of this history waits for."""
    found = Unanswered()
    for event in history:
        found._take(event)
    return found
