"""A parked activity whose token is void: had it been told the very same before?

A repetition after a lost reply must be harmless, and what an activity came to stands in its run's history. Until a
worker has put it there nobody can know, so it is waited for a little. No part of the store's contract: the store knows
tokens, and forgets them with the activity.
"""

from __future__ import annotations

import asyncio
from typing import Final

from durable.backends.contract import Backend
from durable.backends.records import CLOSED_STATES, ActivityFinished, HistoryRange, InstanceRef
from durable.core.events import ActivityCancelled, ActivityCompleted, ActivityFailed
from durable.core.failure import Failure
from durable.core.history import decode_history
from durable.core.messages import input_of
from durable.core.payload import Converter
from durable.errors import InstanceFinished

WAIT_SECONDS: Final = 1.0
LOOK_EVERY_SECONDS: Final = 0.05
_Ending = ActivityCompleted | ActivityFailed | ActivityCancelled


async def demand_told_before(store: Backend, converter: Converter, outcome: ActivityFinished) -> None:
    """Return if the run knows this very outcome already. Raises `InstanceFinished`, saying what is known instead."""
    ref = outcome.ref
    what = f"activity {ref.number} of instance {ref.instance_id!r}"
    ending, over = await _ending(store, outcome)
    if isinstance(ending, ActivityCancelled):
        raise InstanceFinished(f"{what} was cancelled: nobody waits for it any more")
    if ending is not None:
        if _said(converter, ending) == _said(converter, _ending_of(outcome)):
            return
        raise InstanceFinished(f"{what} has ended already, with another outcome, which stands")
    if over:
        raise InstanceFinished(f"{what}: its run has ended, nobody waits for it any more")
    raise InstanceFinished(
        f"{what} does not wait for this token (any more): the attempt that it was given to is over (its time-out, or a "
        "new attempt), or it was finished a moment ago and no worker has seen that yet"
    )


async def _ending(store: Backend, outcome: ActivityFinished) -> tuple[_Ending | None, bool]:
    """What became of the activity, if its history says so, and whether its run has ended."""
    ref, after = outcome.ref, 0
    until = asyncio.get_running_loop().time() + WAIT_SECONDS
    while True:
        # In this order: an ended run's history is complete.
        (view,) = (await store.get([InstanceRef(instance_id=ref.instance_id, run_id=ref.run_id)])).items
        wanted = HistoryRange(instance_id=ref.instance_id, run_id=ref.run_id, after=after)
        (piece,) = (await store.read_history([wanted])).items
        for event in decode_history(piece.events):
            if isinstance(event, _Ending) and event.number == ref.number:
                return event, False
        over = view is None or view.state in CLOSED_STATES
        if over or asyncio.get_running_loop().time() >= until:
            return None, over
        after += len(piece.events)
        await asyncio.sleep(LOOK_EVERY_SECONDS)


def _ending_of(outcome: ActivityFinished) -> _Ending:
    made = input_of(outcome.kind, outcome.body, "", 0)
    assert isinstance(made, ActivityCompleted | ActivityFailed)
    return made


def _said(converter: Converter, ending: _Ending) -> tuple[str, ...]:
    """What counts of an ending. A codec may make something else of the same text each time, and traces differ."""
    match ending:
        case ActivityCompleted(result=result):
            return "completed", converter.codec.decode(result)
        case ActivityFailed(failure=stored):
            failure = Failure.from_text(converter.unseal(stored))
            return "failed", failure.type, failure.message
        case _:
            return ("cancelled",)
