"""The outside: what an instance shows while it runs, without a line of its code and without disturbing it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import durable

LOOK_SECONDS = 0.03


async def watch(instance: durable.Instance[object], say: Callable[[str], None]) -> None:
    """Say each change of state, status and variables, and each event, until the instance has ended.

    What lasts shorter than the time between two looks may be missed in the variables; the history misses nothing.
    """
    seen: dict[str, object] = {}
    run_id, events = "", 0
    while True:
        found = await instance.describe()
        ended = found.closed_at is not None and found.next_run_id is None
        if found.run_id != run_id:
            run_id, events = found.run_id, 0
        for event in (await instance.history())[events:]:
            events = event.number
            say(
                f"{event.time:%H:%M:%S.%f}  event {event.number:>3}  {event.kind:<20} {_detail(event)}".rstrip()
            )
        shown = {"state": found.state, "status": found.status, **found.vars}
        for name, value in shown.items():
            if name not in seen or seen[name] != value:
                say(f"{found.updated_at:%H:%M:%S.%f}  {name} = {value}")
        seen = shown
        if ended:
            return
        await asyncio.sleep(LOOK_SECONDS)


def _detail(event: durable.HistoryEvent) -> str:
    found = [event.fields.get(name) for name in ("workflow", "name", "result")]
    return " ".join(str(value) for value in found if value is not None)
