"""The audit above the store: finds runs that wait for what will never come, which only their histories tell.

A store's own audit never reads events. This one goes through the unfinished runs a page at a time, keeps those that
nobody has and nobody would be handed, and compares what their histories wait for with what the store holds of them
(`durable.client.shortfalls`). A store that works meanwhile is no trouble: what seems to be missing is judged a second
time, and told only if the run's head has not moved.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from durable.backends.contract import Backend
from durable.backends.records import (
    Filter,
    Finding,
    HistoryRange,
    Holdings,
    InstanceRef,
    InstanceView,
    Lost,
    NewMessage,
    Verdict,
)
from durable.client.shortfalls import Family, Shortfall, checkpoint_of, shortfalls, waits_idle
from durable.client.verdicts import is_accepted, until_judged
from durable.core.events import ChildScheduled, Event, NewerFormat
from durable.core.history import check, decode_history
from durable.core.payload import Converter
from durable.core.unanswered import Unanswered, unanswered

PAGE = 100
HISTORY_BYTES = 4 * 2**20
"""How much history is read at once (one history at least): it is taken apart on the caller's event loop."""
CHILDREN_AT_ONCE = 500
EVENTS_AT_ONCE = 500
MOST_REMEMBERED = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class _Case:
    """A run that waits idle, what for, and the last run of each of its children, by command."""

    view: InstanceView
    held: Holdings
    waits: Unanswered
    family: Family


class Audit:
    """Passes over the unfinished runs of a store. With ``repair`` what can be mended is.

    What was found sound is remembered, and its history not read again as long as the store holds the same of it.
    """

    def __init__(self, store: Backend, converter: Converter, *, repair: bool = False) -> None:
        self._store = store
        self._converter = converter
        self._repair = repair
        self._sound: dict[str, Holdings] = {}

    async def pages(
        self, leave_out: Iterable[tuple[str, str | None]] = ()
    ) -> AsyncIterator[Sequence[Finding]]:
        """One pass: the findings of each page of unfinished runs, but for those (instance id, run id) to leave out.

        Raises `BackendError`.
        """
        out = set(leave_out)
        wanted = Filter(states=("running", "paused"), newest_first=False, limit=PAGE)
        while True:
            views = (await self._store.find(wanted)).items
            yield await self._page([view for view in views if (view.instance_id, view.run_id) not in out])
            if len(views) < PAGE:
                return
            wanted = replace(wanted, cursor=(views[-1].created_at_us, views[-1].run_id))

    async def _page(self, views: Sequence[InstanceView]) -> list[Finding]:
        held = await self._idle(views)
        news = [
            (view, held[view.run_id])
            for view in views
            if view.run_id in held and self._sound.get(view.run_id) != held[view.run_id]
        ]
        findings: list[Finding] = []
        for some in _by_size(news):
            for (view, one), events in zip(some, await self._histories(some), strict=True):
                findings += await self._judge(view, one, events)
        return findings

    async def _idle(self, views: Sequence[InstanceView]) -> dict[str, Holdings]:
        """What is held of those that wait idle, by run."""
        answer = await self._store.holdings([_ref(view) for view in views])
        found = [held for held in answer.items if held is not None]
        return {held.run_id: held for held in found if waits_idle(held, answer.now_us)}

    async def _histories(self, some: Sequence[tuple[InstanceView, Holdings]]) -> list[Sequence[bytes]]:
        ranges = [HistoryRange(instance_id=view.instance_id, run_id=view.run_id) for view, _ in some]
        return [piece.events for piece in (await self._store.read_history(ranges)).items]

    # --- judging --------------------------------------------------------------------------------------------------

    async def _judge(self, view: InstanceView, held: Holdings, stored: Sequence[bytes]) -> list[Finding]:
        if len(stored) < held.head.number:
            return []  # forgotten meanwhile; or torn, of which the store's own audit tells
        try:
            history = await _decoded(stored[: held.head.number])
        except NewerFormat:
            return []  # a newer release understands it
        except ValueError as error:
            return [_unreadable(view, error)]
        waits = unanswered(history)
        case = _Case(view=view, held=held, waits=waits, family=await self._family(waits.children))
        if found := self._shortfalls(case):
            return await self._judge_again(case, {one.about for one in found})
        if not waits.children:  # what becomes of a child does not show in what is held of its parent
            self._remember(held)
        return []

    async def _judge_again(self, case: _Case, suspected: set[tuple[str, int]]) -> list[Finding]:
        """What is missing twice under one head is lost; otherwise it was on its way.

        What is held was read after the children: one that ended before that had told its parent in the same step.
        """
        held = (await self._idle([case.view])).get(case.view.run_id)
        if held is None or held.head != case.held.head:
            return []
        case = replace(case, held=held)
        lost = [one for one in self._shortfalls(case) if one.about in suspected]
        if not self._repair:
            return [_found(case.view, one) for one in lost]
        return await self._mend(case, lost)

    def _shortfalls(self, case: _Case) -> list[Shortfall]:
        return list(shortfalls(case.held, case.waits, case.family, self._converter))

    def _remember(self, held: Holdings) -> None:
        self._sound.pop(held.run_id, None)
        self._sound[held.run_id] = held
        if len(self._sound) > MOST_REMEMBERED:
            del self._sound[next(iter(self._sound))]

    # --- children -------------------------------------------------------------------------------------------------

    async def _family(self, children: Mapping[int, ChildScheduled]) -> dict[int, InstanceView]:
        """The last run of each child that is there."""
        current = await self._get({n: InstanceRef(instance_id=c.instance_id) for n, c in children.items()})
        last = {n: view for n, view in current.items() if view.first_run_id == children[n].run_id}
        # The others are gone, or their ids were used anew: then their runs are found one by one.
        left = {
            n: InstanceRef(instance_id=children[n].instance_id, run_id=children[n].run_id)
            for n in current
            if n not in last
        }
        while left:
            found = await self._get(left)
            last |= {n: view for n, view in found.items() if view.next_run_id is None}
            left = {
                n: InstanceRef(instance_id=view.instance_id, run_id=view.next_run_id)
                for n, view in found.items()
                if view.next_run_id is not None
            }
        return last

    async def _get(self, refs: Mapping[int, InstanceRef]) -> dict[int, InstanceView]:
        found: dict[int, InstanceView] = {}
        asked = list(refs.items())
        for at in range(0, len(asked), CHILDREN_AT_ONCE):
            some = asked[at : at + CHILDREN_AT_ONCE]
            views = (await self._store.get([ref for _, ref in some])).items
            found |= {number: view for (number, _), view in zip(some, views, strict=True) if view is not None}
        return found

    # --- mending --------------------------------------------------------------------------------------------------

    async def _mend(self, case: _Case, lost: Sequence[Shortfall]) -> list[Finding]:
        """One checkpoint on top of the head that was judged, then the messages, in their order."""
        mendings = [one.mending for one in lost if one.mending is not None]
        checkpoint = checkpoint_of(case.held, case.waits, mendings)
        verdict = None if checkpoint is None else (await until_judged(self._store.commit, [checkpoint]))[0]
        if isinstance(verdict, Lost):
            return []  # it went on: nothing was missing, or the next pass will see it again
        objection: Verdict | None = None if verdict is None or is_accepted(verdict) else verdict
        if objection is None:
            objection = await self._tell([message for one in mendings for message in one.messages])
        return [_mended(case.view, one, objection) for one in lost]

    async def _tell(self, told: Sequence[NewMessage]) -> Verdict | None:
        """Why a message did not arrive, if there is one that did not."""
        for message in told:
            (verdict,) = await until_judged(self._store.send, [message])
            if not is_accepted(verdict):
                return verdict
        return None


def _by_size(
    some: Sequence[tuple[InstanceView, Holdings]],
) -> Iterator[list[tuple[InstanceView, Holdings]]]:
    """Cut into batches of about `HISTORY_BYTES` of history."""
    batch: list[tuple[InstanceView, Holdings]] = []
    size = 0
    for one in some:
        if batch and size + one[0].history_bytes > HISTORY_BYTES:
            yield batch
            batch, size = [], 0
        batch.append(one)
        size += one[0].history_bytes
    if batch:
        yield batch


async def _decoded(stored: Sequence[bytes]) -> list[Event]:
    """The history. Raises `NewerFormat`, and ``ValueError`` for what is none."""
    history: list[Event] = []
    for at in range(0, len(stored), EVENTS_AT_ONCE):
        history += decode_history(stored[at : at + EVENTS_AT_ONCE], first=at + 1)
        await asyncio.sleep(0)
    check(history)
    return history


def _ref(view: InstanceView) -> InstanceRef:
    return InstanceRef(instance_id=view.instance_id, run_id=view.run_id)


def _unreadable(view: InstanceView, error: ValueError) -> Finding:
    return Finding(
        rule="I29 every row can be read",
        instance_id=view.instance_id,
        run_id=view.run_id,
        detail=f"instance {view.instance_id!r}: {error}",
    )


def _found(view: InstanceView, one: Shortfall) -> Finding:
    repair = "; " if one.mending is None else "; repair: "
    return Finding(
        rule=one.rule,
        instance_id=view.instance_id,
        run_id=view.run_id,
        detail=f"instance {view.instance_id!r}: {one.missing}{repair}{one.remedy}",
        repairable=one.mending is not None,
    )


def _mended(view: InstanceView, one: Shortfall, objection: Verdict | None) -> Finding:
    found = _found(view, one)
    if one.mending is None:
        return found
    if objection is not None:
        return replace(found, detail=f"{found.detail}; but the store answered {objection!r}")
    return replace(found, detail=found.detail.replace("; repair: ", "; repaired: ", 1), repaired=True)
