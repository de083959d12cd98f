"""Forks: a new instance that keeps the first events of another one's run, and goes on from there by itself.

Two sorts of places can be kept up to. Behind all that an input led to, the fork waits as the run did. At an input, what
that led to is left out: the code decides anew, so that mended code can do otherwise. What the run waited for there is
begun again for the fork: its activities are scheduled, its timers count on. The fork has ids of its own; the random
numbers of its past (and the order of sets) are those of the run that it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from durable.backends.records import (
    Checkpoint,
    Head,
    HeldLease,
    HistoryRange,
    InstanceView,
    NewActivity,
    NewInstance,
    NewMessage,
)
from durable.client.verdicts import is_accepted
from durable.core import messages
from durable.core.definition import ActivityOptions
from durable.core.events import ActivityScheduled, Decision, Event, Input, RunStarted, encode_event
from durable.core.failure import failure_of
from durable.core.history import ENDINGS, decode_history
from durable.core.ids import first_token, new_run_id, new_token, open_token
from durable.core.unanswered import Unanswered, unanswered
from durable.errors import BackendError, WorkerLost

if TYPE_CHECKING:
    from durable.client.client import Client

LEASE_US = 15_000_000
"""So long a fork is nobody else's, until its activities are scheduled, too."""
PAST_US = 1


class Fork:
    """A fork in the making: ``view`` is the run, ``at`` the number of the last event that is kept."""

    def __init__(
        self, client: Client, view: InstanceView, stored: Sequence[bytes], at: int, id: str | None
    ) -> None:
        self._client = client
        self._view = view
        self._kept = stored[:at]
        self._at = at
        history = decode_history(stored)
        _check(history, at, view.instance_id)
        self._begins_again = isinstance(history[at - 1], Input)
        self._events = history[:at]
        self.run_id = new_run_id()
        self.instance_id = self.run_id if id is None else id

    def instance(self) -> tuple[NewInstance, Checkpoint | None]:
        """The run to be made, and what schedules its activities once it is."""
        waits = unanswered(self._events)
        begun_again = [asked for asked in waits.activities.values() if not _options(asked).at_most_once]
        # Open: the run may have asked for activities that its history does not hold yet (they run without a row).
        token = first_token(self.run_id) if self._begins_again else open_token()
        head = Head(number=self._at, token=new_token() if begun_again else token)
        first = self._events[0]
        assert isinstance(first, RunStarted)
        started = replace(first, seed=first.seed or self._view.run_id)
        new = NewInstance(
            instance_id=self.instance_id,
            run_id=self.run_id,
            workflow=self._view.workflow,
            version=self._view.version,
            queue=self._view.queue,
            events=(encode_event(started), *self._kept[1:]),
            head=head,
            tags=self._view.tags,
            messages=tuple(self._answers(waits)),
            lease=_lease() if begun_again else None,
        )
        if not begun_again:
            return new, None
        wake_at_us = PAST_US if self._begins_again or new.messages else waits.wake_at_us
        return new, Checkpoint(
            instance_id=self.instance_id,
            run_id=self.run_id,
            head=head,
            new_head=Head(number=self._at, token=token),
            events=(),
            activities=tuple(_again(asked) for asked in begun_again),
            wake_at_us=wake_at_us,
        )

    def _answers(self, waits: Unanswered) -> Sequence[NewMessage]:
        """What has happened already and must not happen twice: messages were sent, careful activities have begun."""
        found = [(messages.OUTCOME, number, f"{number} delivered") for number in waits.sends]
        for number, asked in waits.activities.items():
            if _options(asked).at_most_once:
                error = WorkerLost(
                    f"activity {asked.name!r} ({number}) began before the fork; it is at_most_once"
                )
                sealed = self._client.converter.seal(failure_of(error).to_text())
                found.append((messages.ACTIVITY_FAILED, number, messages.failed_body(number, sealed)))
        return [
            NewMessage(
                instance_id=self.instance_id,
                run_id=self.run_id,
                key=f"fork/{self.run_id}/{number}",
                kind=kind,
                body=body,
            )
            for kind, number, body in found
        ]


async def read_fork(client: Client, view: InstanceView, at: int, id: str | None) -> Fork:
    """Read what is to be kept. Raises ``ValueError`` for an event at which there can be no fork."""
    asked = HistoryRange(instance_id=view.instance_id, run_id=view.run_id)
    stored = (await client.store.read_history([asked])).items[0].events
    if isinstance(at, bool) or not isinstance(at, int) or not 1 <= at <= len(stored):
        raise ValueError(
            f"instance {view.instance_id!r} has events 1 to {len(stored)}; it cannot be forked at {at!r}"
        )
    return Fork(client, view, stored, at, id)


async def schedule(client: Client, checkpoint: Checkpoint) -> None:
    """Schedule a fork's activities. Raises `BackendError` if the store does not take them."""
    verdict = (await client.store.commit([checkpoint])).items[0]
    if not is_accepted(verdict):
        raise BackendError(
            f"instance {checkpoint.instance_id!r} was forked without its activities: {verdict!r}"
        )


def _check(history: Sequence[Event], at: int, instance_id: str) -> None:
    where = f"instance {instance_id!r} cannot be forked at event {at}"
    if isinstance(history[at - 1], ENDINGS):
        raise ValueError(f"{where}: the run ends there. Fork it at an earlier one")
    following = history[at] if at < len(history) else None
    if isinstance(history[at - 1], Decision) and isinstance(following, Decision):
        before = next(n for n in range(at - 1, 0, -1) if isinstance(history[n - 1], Input))
        after = next((n - 1 for n in range(at + 1, len(history) + 1) if isinstance(history[n - 1], Input)), 0)
        behind = f", or at {after}, behind all that it asked for" if after else ""
        raise ValueError(
            f"{where}: it is in the middle of a step. Fork it at {before}, where the step begins{behind}"
        )
    children = unanswered(history[:at]).children
    if children:
        number, child = next(iter(children.items()))
        raise ValueError(
            f"{where}: its child {child.instance_id!r} (command {number}) runs there, and will tell nobody but "
            "its parent. Fork it before the child is started, or behind its end"
        )


def _options(asked: ActivityScheduled) -> ActivityOptions:
    try:
        return ActivityOptions.from_text(asked.options)
    except (ValueError, KeyError, TypeError):
        return ActivityOptions()


def _again(asked: ActivityScheduled) -> NewActivity:
    limit = _options(asked).queue_timeout_seconds
    return NewActivity(
        number=asked.number,
        name=asked.name,
        queue=asked.queue,
        payload=asked.args,
        options=asked.options,
        queue_timeout_us=None if limit is None else round(limit * 1e6),
    )


def _lease() -> HeldLease:
    return HeldLease(worker_id=f"fork/{new_token()}", token=new_token(), lease_us=LEASE_US)
