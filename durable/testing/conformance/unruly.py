"""The workflows of `durable.testing.conformance.commotion`: each notes what it begins, and for whom.

Not of `durable.testing.conformance.programs`, whose activities count by a key and do not know which worker they are at.
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from typing import Any, Literal

import durable

begun: defaultdict[tuple[str, int], list[Any]] = defaultdict(list)
"""The clients of the workers that began each attempt, by task and number of the attempt."""
begun_once: Counter[str] = Counter()
"""How often each at_most_once activity was begun, by task."""
cleaned: Counter[str] = Counter()
"""How often each instance was cleaned up."""
beat: durable.Signal[int] = durable.Signal("beat", int)
over: durable.Signal[str] = durable.Signal("over", str)


def forget() -> None:
    """All counts: they belong to one law."""
    for counts in (begun, begun_once, cleaned):
        counts.clear()


def _note() -> durable.ActivityInfo:
    info = durable.activity_info()
    begun[info.task_id, info.attempt].append(info.client)
    return info


@durable.activity
async def note(value: int) -> int:
    """What it was given, in a while."""
    _note()
    await asyncio.sleep(0.004 * (value % 3))
    return value


@durable.activity
async def linger(seconds: float) -> str:
    """Takes its time."""
    _note()
    await asyncio.sleep(seconds)
    return "done"


@durable.activity(at_most_once=True)
async def charge(value: int) -> int:
    """Must not be begun twice."""
    begun_once[_note().task_id] += 1
    await asyncio.sleep(0.02)
    return value


@durable.activity(retry=durable.Retry(max_attempts=5, initial=0.01, jitter=0))
async def shaky(failures: int) -> int:
    """Fails so often; gives the number of the attempt that went well."""
    info = _note()
    if info.attempt <= failures:
        raise ConnectionError(f"attempt {info.attempt}")
    return info.attempt


@durable.activity
async def clean(key: str) -> None:
    """Cleans up."""
    _note()
    await asyncio.sleep(0.005)
    cleaned[key] += 1


@durable.workflow
async def in_sequence(steps: int) -> list[int]:
    """One after the other."""
    return [await note(step) for step in range(steps)]


@durable.workflow
async def in_parallel(width: int) -> list[int]:
    """All at once."""
    return list(await asyncio.gather(*map(note, range(width))))


@durable.workflow
async def kept(policy: str) -> str:
    """A child: waits for a word, and cleans up when it is cancelled."""
    durable.set_status("waiting")
    try:
        return await over.receive()
    except asyncio.CancelledError:
        await clean(durable.info().instance_id)
        raise


@durable.workflow
async def family(value: int) -> int:
    """Ends before its children, each with another policy."""
    own = durable.info().instance_id
    policies: tuple[Literal["terminate", "cancel", "abandon"], ...] = ("terminate", "cancel", "abandon")
    for policy in policies:
        await durable.start(kept, policy, id=f"{own}-{policy}", parent_close=policy).started()
    return await in_sequence.options(id=f"{own}-awaited")(value) == list(range(value)) and value


@durable.workflow
async def listens(count: int) -> list[int]:
    """Hears numbers, with something to do in between."""
    heard = []
    for _ in range(count):
        heard.append(await beat.receive())
        await note(heard[-1])
    return heard


@durable.workflow
async def continues(heard: list[int], count: int) -> list[int]:
    """The same over several runs."""
    for _ in range(3):
        heard.append(await beat.receive())
        if len(heard) == count:
            return heard
    await note(len(heard))
    durable.continue_as_new(heard, count)
    raise AssertionError("not reached")


@durable.workflow
async def ledger() -> list[int]:
    """Updates with an activity each, behind a validator; a query."""
    items: list[int] = []

    @durable.query
    def size() -> int:
        return len(items)

    @durable.update
    async def add(item: int) -> int:
        items.append(await note(item))
        return item

    @add.validator
    def _check(item: int) -> None:
        if item < 0:
            raise ValueError("negative")

    await over.receive()
    return items


@durable.workflow
async def races(limit: float, takes: float) -> str:
    """An activity against a timer."""
    try:
        async with asyncio.timeout(limit):
            return await linger(takes)
    except TimeoutError:
        await note(1)
        return "late"


@durable.workflow
async def charged(values: int) -> list[int | str]:
    """What may be begun once only, or lost with its worker."""
    found: list[int | str] = []
    for value in range(values):
        try:
            found.append(await charge(value))
        except durable.WorkerLost:
            found.append("lost")
    return found


@durable.workflow
async def retried(failures: int) -> int:
    """An activity that fails some times."""
    return await shaky(failures)


@durable.workflow
async def tidies() -> str:
    """Waits, and cleans up when it is cancelled."""
    durable.set_status("waiting")
    try:
        await asyncio.gather(linger(0.2), over.receive())
    except asyncio.CancelledError:
        await clean(durable.info().instance_id)
        raise
    return "not cancelled"


@durable.workflow
async def saga(steps: int) -> list[int]:
    """Undoes what it did, in the opposite order."""
    undo: list[int] = []
    undone = []
    try:
        for step in range(steps):
            undo.append(await note(step))
        await shaky.options(retry=durable.Retry(max_attempts=1))(9)
    except ConnectionError:
        for step in reversed(undo):
            undone.append(await note(step))
    return undone


ACTIVITIES: tuple[durable.Activity[..., Any], ...] = (note, linger, charge, shaky, clean)
WORKFLOWS: tuple[durable.Workflow[..., Any], ...] = (
    in_sequence, in_parallel, kept, family, listens, continues, ledger, races, charged, retried, tidies, saga,
)  # fmt: skip
ALL = (*ACTIVITIES, *WORKFLOWS)
