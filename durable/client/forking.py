"""Forks: a new instance that keeps the first events of another one's run, and goes on from there by itself.

Two sorts of places can be kept up to. Behind all that an input led to, the fork waits as the run did. At an input, what
that led to is left out: the code decides anew, so that mended code can do otherwise. What the run waited for there is
begun again for the fork: its activities are scheduled, its timers count on; its children are told of in
`forked_children`. The fork has ids of its own; the random numbers of its past (and the order of sets) are those of the
run that it was.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from durable.backends.records import (
    Checkpoint,
    Head,
    HeldLease,
    InstanceRef,
    InstanceView,
    NewActivity,
    NewInstance,
    NewMessage,
    StartChild,
)
from durable.client.forked_children import Begun, own_ids, read_children
from durable.core import messages
from durable.core.definition import ActivityOptions
from durable.core.events import (
    ActivityScheduled,
    ChildScheduled,
    Decision,
    Event,
    Input,
    RunStarted,
    encode_event,
)
from durable.core.failure import failure_of
from durable.core.history import ENDINGS, decode_history
from durable.core.ids import first_token, new_run_id, new_token, open_token
from durable.core.unanswered import Unanswered, unanswered
from durable.errors import WorkerLost

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
        self._children: list[Begun] = []
        self.run_id = new_run_id()
        self.instance_id = self.run_id if id is None else id

    async def read_children(self) -> None:
        """Look what has become of those that were not over. Raises ``ValueError`` if one is in the way."""
        waits = unanswered(self._events)
        where = f"instance {self._view.instance_id!r} cannot be forked at event {self._at}"
        self._children = await read_children(self._client.store, self._view, waits.children.values(), where)

    def instance(self) -> tuple[NewInstance, Checkpoint | None]:
        """The run to be made, and what schedules its activities and children once it is."""
        waits = unanswered(self._events)
        fork = InstanceRef(instance_id=self.instance_id, run_id=self.run_id)
        children = {
            child.asked.number: child.again(
                fork, self._view.run_id, self._events, self._client.clock.now_us()
            )
            for child in self._children
            if not child.has_ended_by_itself
        }
        begun_again = [asked for asked in waits.activities.values() if not _options(asked).at_most_once]
        # Open: the run may have asked for activities that its history does not hold yet (they run without a row).
        token = first_token(self.run_id) if self._begins_again else open_token()
        head = Head(number=self._at, token=new_token() if begun_again or children else token)
        first = self._events[0]
        assert isinstance(first, RunStarted)
        started = replace(first, seed=first.seed or self._view.run_id)
        new = NewInstance(
            instance_id=self.instance_id,
            run_id=self.run_id,
            workflow=self._view.workflow,
            version=self._view.version,
            queue=self._view.queue,
            events=(encode_event(started), *self._past(children)),
            head=head,
            tags=self._view.tags,
            messages=tuple(self._answers(waits)),
            lease=_lease() if begun_again or children else None,
        )
        if not begun_again and not children:
            return new, None
        wake_at_us = PAST_US if self._begins_again or new.messages else waits.wake_at_us
        return new, Checkpoint(
            instance_id=self.instance_id,
            run_id=self.run_id,
            head=head,
            new_head=Head(number=self._at, token=token),
            events=(),
            activities=tuple(_again(asked) for asked in begun_again),
            children=tuple(StartChild(instance=child, number=number) for number, child in children.items()),
            wake_at_us=wake_at_us,
        )

    def _past(self, children: Mapping[int, NewInstance]) -> Iterator[bytes]:
        """The stored events behind the first. Children that are begun again are the fork's own there."""
        for event, stored in zip(self._events[1:], self._kept[1:], strict=True):
            if isinstance(event, ChildScheduled) and event.number in children:
                yield encode_event(own_ids(event, children[event.number]))
            else:
                yield stored

    def _answers(self, waits: Unanswered) -> Sequence[NewMessage]:
        """What has happened already and must not happen twice.

        Messages were sent, careful activities have begun, children have come to their end.
        """
        found = [(messages.OUTCOME, number, f"{number} delivered") for number in waits.sends]
        for child in self._children:
            if child.has_ended_by_itself:
                found.append((messages.CHILD_CLOSED, child.asked.number, child.end()))
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
    stored = await client.events(view)
    if isinstance(at, bool) or not isinstance(at, int) or not 1 <= at <= len(stored):
        raise ValueError(
            f"instance {view.instance_id!r} has events 1 to {len(stored)}; it cannot be forked at {at!r}"
        )
    fork = Fork(client, view, stored, at, id)
    await fork.read_children()
    return fork


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
