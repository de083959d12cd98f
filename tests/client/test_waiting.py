"""Who waits for a result is looked at in time, also where no bell rings for what other processes end."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Collection
from types import SimpleNamespace
from typing import Any, cast

import pytest

from durable.backends.records import InstanceRef, State
from durable.backends.wakeup import Bell
from durable.client.waiting import FIRST_POLL_SECONDS, Ending, Waiting

OURS = InstanceRef(instance_id="ours", run_id="r")
OTHERS = InstanceRef(instance_id="others", run_id="r")
LATE = InstanceRef(instance_id="late", run_id="r")
DONE = Ending("completed", None, None, None)


class _Hurry(selectors.SelectSelector):
    """Nothing is waited for: the time goes on instead."""

    now = 0.0

    def select(self, timeout: float | None = None) -> Any:
        self.now += timeout or 0.0
        return super().select(0)


class _Loop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._hurry = _Hurry()
        super().__init__(self._hurry)

    def time(self) -> float:
        return self._hurry.now


class _Store:
    """Runs that end when somebody says so; the bell does not ring for it."""

    def __init__(self) -> None:
        self.bell = Bell()
        self.ended: set[InstanceRef] = set()

    async def get(self, refs: Collection[InstanceRef]) -> Any:
        def view(ref: InstanceRef) -> Any:
            state: State = "completed" if ref in self.ended else "running"
            return SimpleNamespace(state=state, result=None, failure=None, next_run_id=None)

        return SimpleNamespace(items=[view(ref) for ref in refs])


def _run(main: Any) -> Any:
    with asyncio.Runner(loop_factory=_Loop) as runner:
        return runner.run(main)


async def _late_by(waiting: Waiting, store: _Store, ref: InstanceRef) -> float:
    """How long after its end a run that was just made is known to have ended."""
    waiting.born(ref.instance_id)
    found = asyncio.ensure_future(waiting.closed(ref))
    await asyncio.sleep(0)
    ended = asyncio.get_running_loop().time()
    store.ended.add(ref)
    assert await found == DONE
    return asyncio.get_running_loop().time() - ended


def test_after_another_whose_result_has_just_come() -> None:
    async def main() -> float:
        store = _Store()
        waiting = Waiting(cast("Any", store), 1.0, ())
        first = asyncio.ensure_future(waiting.closed(OURS))
        await asyncio.sleep(0.001)
        store.ended.add(OURS)
        await first
        await asyncio.sleep(0.001)  # nobody waits now, and the bell is listened to for a moment
        late = await _late_by(waiting, store, LATE)
        await waiting.close()
        return late

    assert _run(main()) <= 2 * FIRST_POLL_SECONDS


def test_beside_another_who_waits_for_long() -> None:
    async def main() -> float:
        store = _Store()
        waiting = Waiting(cast("Any", store), 3600.0, ())
        long = asyncio.ensure_future(waiting.closed(OTHERS))
        await asyncio.sleep(1000)  # by now it is looked at every quarter of an hour
        late = await _late_by(waiting, store, LATE)
        long.cancel()
        await waiting.close()
        return late

    assert _run(main()) <= 2 * FIRST_POLL_SECONDS


@pytest.mark.parametrize("poll_seconds", [0.01, 1.0])
def test_no_later_than_the_poll_interval(poll_seconds: float) -> None:
    async def main() -> float:
        store = _Store()
        waiting = Waiting(cast("Any", store), poll_seconds, ())
        long = asyncio.ensure_future(waiting.closed(OTHERS))
        await asyncio.sleep(0.001)
        late = await _late_by(waiting, store, LATE)
        long.cancel()
        await waiting.close()
        return late

    assert _run(main()) <= 2 * min(FIRST_POLL_SECONDS, poll_seconds)
