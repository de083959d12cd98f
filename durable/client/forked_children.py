"""What becomes, in a fork, of the children that were not over at its event: each was started once, and is not lightly
started again.

One that has ended by itself since is over for the fork, too: it is told of that end. One that was cut off (terminated
or cancelled, with its parent or by people) is begun again as the fork's own, with what the run had sent it. One that
still runs is in the way: it will tell nobody but its parent.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from durable.backends.records import (
    OPEN_STATES,
    Head,
    HistoryRange,
    InstanceRef,
    InstanceView,
    NewInstance,
    NewMessage,
    Parent,
)
from durable.core import messages
from durable.core.events import CancelSent, ChildScheduled, Event, RunStarted, SignalSent, encode_event
from durable.core.history import decode_history
from durable.core.ids import derived_run_id, first_token

if TYPE_CHECKING:
    from durable.backends.contract import Backend

ENDED_BY_ITSELF = ("completed", "failed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """A child as the original began it (``first``, with its first event), and as its last run is now (``last``)."""

    asked: ChildScheduled
    first: InstanceView
    started: RunStarted
    last: InstanceView

    @property
    def has_ended_by_itself(self) -> bool:
        return self.last.state in ENDED_BY_ITSELF

    def end(self) -> str:
        """The body of the message that tells of its end."""
        last = self.last
        return messages.child_closed_body(self.asked.number, last.state, last.result, last.failure)

    def again(self, fork: InstanceRef, run_id: str, history: Sequence[Event], now_us: int) -> NewInstance:
        """The child that the fork of ``run_id`` has instead. ``history`` is what the fork keeps."""
        assert fork.run_id is not None
        number, first = self.asked.number, self.first
        own_run_id = derived_run_id(fork.run_id, number)
        instance_id = self.asked.instance_id
        if instance_id == f"{run_id}/{number}":
            instance_id = f"{fork.run_id}/{number}"
        limit_us = None if first.deadline_us is None else first.deadline_us - first.created_at_us
        return NewInstance(
            instance_id=instance_id,
            run_id=own_run_id,
            workflow=first.workflow,
            version=first.version,
            queue=first.queue,
            events=(encode_event(replace(self.started, time_us=now_us)),),
            head=Head(number=1, token=first_token(own_run_id)),
            parent=Parent(
                instance_id=fork.instance_id,
                run_id=fork.run_id,
                number=number,
                close="terminate" if first.parent is None else first.parent.close,
            ),
            timeout_us=limit_us,
            messages=tuple(_sent_to(self.asked.instance_id, instance_id, fork.run_id, history)),
        )


async def read_children(
    store: Backend, view: InstanceView, open_ones: Iterable[ChildScheduled], where: str
) -> list[Begun]:
    """The children that were not over. Raises ``ValueError``, beginning with ``where``, if one is in the way."""
    return [await _read(store, view, asked, where) for asked in open_ones]


def own_ids(event: ChildScheduled, again: NewInstance) -> ChildScheduled:
    """The event of the original's child as that of the fork's."""
    return replace(event, instance_id=again.instance_id, run_id=again.run_id)


async def _read(store: Backend, view: InstanceView, asked: ChildScheduled, where: str) -> Begun:
    what = f"{where}: its child {asked.instance_id!r} (command {asked.number})"
    before = "fork it before the child is started"
    first, holder = (
        await store.get([InstanceRef(instance_id=asked.instance_id, run_id=asked.run_id), _current(asked)])
    ).items
    if first is None or not _is_parent(view, first):
        raise ValueError(f"{what} is not there, so that nobody knows how it ended; {before}")
    last = await _last_run(store, first)
    if last.state in OPEN_STATES:
        raise ValueError(
            f"{what} runs there and still does, and will tell nobody but its parent. Wait for its end, end the "
            f"original with it, or {before}"
        )
    if holder is not None and holder.state in OPEN_STATES and last.state not in ENDED_BY_ITSELF:
        raise ValueError(f"{what} would be begun again, but somebody else has its id now; {before}")
    asked_range = HistoryRange(instance_id=first.instance_id, run_id=first.run_id)
    stored = (await store.read_history([asked_range])).items[0].events
    if not stored:
        raise ValueError(f"{what} was deleted meanwhile; {before}")
    (started,) = decode_history(stored[:1])
    assert isinstance(started, RunStarted)
    return Begun(asked=asked, first=first, started=started, last=last)


async def _last_run(store: Backend, view: InstanceView) -> InstanceView:
    while view.next_run_id is not None:
        ref = InstanceRef(instance_id=view.instance_id, run_id=view.next_run_id)
        following = (await store.get([ref])).items[0]
        if following is None:
            return view
        view = following
    return view


def _current(asked: ChildScheduled) -> InstanceRef:
    return InstanceRef(instance_id=asked.instance_id)


def _is_parent(view: InstanceView, child: InstanceView) -> bool:
    return child.parent is not None and child.parent.run_id == view.run_id


def _sent_to(old_id: str, new_id: str, run_id: str, history: Sequence[Event]) -> Iterable[NewMessage]:
    """What the run had sent its child, for the one that is begun again."""
    for event in history:
        match event:
            case SignalSent(instance_id=to) if to == old_id:
                kind, body = messages.SIGNAL, messages.signal_body(event.name, event.payload)
            case CancelSent(instance_id=to) if to == old_id:
                kind, body = messages.CANCEL, messages.cancel_body(event.reason)
            case _:
                continue
        key = f"fork/{run_id}/{event.number}"
        yield NewMessage(instance_id=new_id, key=key, kind=kind, body=body)
