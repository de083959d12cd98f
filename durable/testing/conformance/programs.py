"""The fixed set of workflows, and their activities, that every store has to carry.

Each shows one thing. Activities count how often they were called (`calls`), and some wait for a gate that a law opens
(`gate`); both go by a key that no two laws share.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from typing import Literal

import durable

calls: Counter[str] = Counter()
"""How many attempts were begun, by key."""
_gates: dict[str, asyncio.Event] = {}


def gate(key: str) -> asyncio.Event:
    """What `hold` and its like wait for."""
    return _gates.setdefault(key, asyncio.Event())


def forget() -> None:
    """Forget all gates and counts, which belong to one law and its loop."""
    calls.clear()
    _gates.clear()


@dataclass
class Approval:
    """What a signal carries."""

    by: str
    cents: int


class Stage(Enum):
    """A status."""

    WAITING = "waiting"
    SHIPPED = "shipped"


class CardDeclined(Exception):
    """An error of the user's own."""


approve: durable.Signal[Approval] = durable.Signal("approve", Approval)
tick: durable.Signal[int] = durable.Signal("tick", int)
go: durable.Signal[str] = durable.Signal("go", str)

# --- activities -----------------------------------------------------------------------------------------------------


@durable.activity
async def echo(value: int, key: str = "") -> int:
    """What it was given."""
    calls[key] += 1
    return value


@durable.activity
def in_thread(value: int) -> int:
    """What it was given, doubled, in a thread."""
    return value * 2


@durable.activity(retry=durable.Retry(max_attempts=3, initial=0.01, jitter=0))
async def flaky(failures: int) -> int:
    """Fails as often as it is told; gives the number of the attempt that went well."""
    attempt = durable.activity_info().attempt
    if attempt <= failures:
        raise CardDeclined(f"attempt {attempt}")
    return attempt


@durable.activity
async def final(text: str) -> None:
    """Fails, and says not to try again."""
    raise durable.NonRetryable(text)


@durable.activity
async def hold(key: str) -> str:
    """Waits until its gate is opened."""
    calls[key] += 1
    gate(f"{key} begun").set()
    try:
        await gate(key).wait()
    except asyncio.CancelledError:
        gate(f"{key} cancelled").set()
        raise
    return key


@durable.activity(retry=durable.Retry(max_attempts=2, initial=0.01, jitter=0))
async def resumes() -> int:
    """Heartbeats how far it came, and fails; its next attempt goes on from there."""
    last: int | None = durable.activity_info().last_heartbeat
    if last is None:
        durable.heartbeat(41)
        raise ConnectionError("broke off behind the heartbeat")
    return last + 1


@durable.activity
async def finished_elsewhere(key: str) -> str:
    """Leaves its token in the mail."""
    mail[key] = await durable.complete_later()
    gate(key).set()
    return "ignored"


mail: dict[str, str] = {}

# --- one after the other, side by side ------------------------------------------------------------------------------


@durable.workflow
async def sequence(steps: int, key: str = "") -> list[int]:
    """Activities, one after the other."""
    return [await echo(step, key) for step in range(steps)]


@durable.workflow
async def fan_out(width: int, key: str = "") -> int:
    """Activities at the same time, three ways of waiting for them."""
    gathered = sum(await asyncio.gather(*(echo(n, key) for n in range(width))))
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(in_thread(n)) for n in range(3)]
    done, _ = await asyncio.wait({asyncio.ensure_future(echo(n, key)) for n in range(width)})
    return gathered + sum(task.result() for task in tasks) + sum(task.result() for task in done)


@durable.workflow
async def one_by_one(width: int) -> list[int]:
    """Handles results in the order in which they came, each with another activity."""
    seen = []
    for next_one in asyncio.as_completed([echo(n) for n in range(width)]):
        seen.append(await echo(await next_one * 10))
    return sorted(seen)


# --- failing --------------------------------------------------------------------------------------------------------


@durable.workflow
async def retried(failures: int) -> int:
    """An activity that fails some times."""
    return await flaky(failures)


@durable.workflow
async def catches() -> list[str]:
    """What activities raise comes out as itself."""
    caught = []
    for call in (flaky(9), final("never")):
        try:
            await call
        except (CardDeclined, durable.NonRetryable) as error:
            caught.append(f"{type(error).__name__}: {error}")
    return caught


@durable.workflow
async def times_out(key: str) -> list[str]:
    """Each time limit of an activity, and one of asyncio's."""
    once = durable.Retry(max_attempts=1)
    kinds = []
    for call in (
        hold.options(timeout=0.03, retry=once)(key),
        hold.options(heartbeat_timeout=0.03, retry=once)(key),
        hold.options(queue="nobody", queue_timeout=0.03, retry=once)(key),
    ):
        try:
            await call
        except durable.ActivityTimeout as error:
            kinds.append(error.kind)
    try:
        async with asyncio.timeout(0.03):
            await hold(key)
    except TimeoutError:
        kinds.append("asyncio")
    return kinds


@durable.workflow
async def goes_on_from_heartbeat() -> int:
    """Heartbeat details reach the next attempt."""
    return await resumes()


@durable.workflow
async def waits_for_elsewhere(key: str) -> str:
    """An activity that is finished by a client."""
    return await finished_elsewhere(key)


# --- time -----------------------------------------------------------------------------------------------------------


@durable.workflow
async def sleeper(seconds: float) -> float:
    """Sleeps, and says for how long by its own clock."""
    before = durable.now()
    durable.set_status("asleep")
    await asyncio.sleep(seconds)
    return (durable.now() - before).total_seconds()


@durable.workflow
async def wakes_in_order(unit: float) -> list[int]:
    """Timers fire in the order of their times, whatever order they were set in."""
    order: list[int] = []

    async def wake(number: int) -> None:
        await durable.sleep(number * unit)
        order.append(number)

    durable.set_status("asleep")
    await asyncio.gather(*(wake(number) for number in (3, 1, 2)))
    return order


@durable.workflow
async def until(when: datetime) -> bool:
    """Sleeps until a time."""
    await durable.sleep_until(when)
    return durable.now() >= when.replace(tzinfo=when.tzinfo or UTC)


# --- signals and conditions -----------------------------------------------------------------------------------------


@durable.workflow
async def approvals(count: int) -> list[Approval]:
    """Receives typed signals in order."""
    return [await approve.receive() for _ in range(count)]


@durable.workflow
async def at_the_end() -> list[int]:
    """Takes what has arrived when its activity is done."""
    await echo(0)
    first = await tick.receive()
    more = []
    while (value := tick.receive_nowait()) is not None:
        more.append(value)
    return [first, *more]


@durable.workflow
async def conditional(limit: float) -> str:
    """Waits for its own state, first in vain."""
    words: list[str] = []

    async def listen() -> None:
        async for word in go:
            words.append(word)

    listening = asyncio.ensure_future(listen())
    durable.set_status("waiting")
    try:
        await durable.wait_condition(lambda: len(words) > 2, timeout=limit)
    except TimeoutError:
        words.append("late")
    durable.set_status("late")
    await durable.wait_condition(lambda: "now" in words)
    listening.cancel()
    return " ".join(words)


@durable.workflow
async def sender(to: str, missing: str) -> list[str]:
    """Signals another instance, and one that there is not."""
    answers = []
    for name in (to, missing):
        try:
            await durable.get_instance(name).signal(go, "hello")
            answers.append("delivered")
        except durable.InstanceNotFound:
            answers.append("not found")
        except durable.InstanceFinished:
            answers.append("finished")
    return answers


@durable.workflow
async def hears() -> str:
    """One word."""
    return await go.receive()


# --- what is recorded and shown -------------------------------------------------------------------------------------

rolled: Counter[str] = Counter()


def _roll(key: str) -> int:
    rolled[key] += 1
    return rolled[key]


@durable.workflow
async def records(key: str) -> list[object]:
    """Side effects, random numbers and times are the same after each crash."""
    first = durable.side_effect(lambda: _roll(key))
    drawn = [durable.random().random(), str(durable.uuid4()), durable.now().isoformat()]
    await echo(1)
    await go.receive()
    second = durable.side_effect(lambda: _roll(key))
    return [first, second, *drawn]


@durable.workflow
async def shows() -> str:
    """Variables, status and events for others."""
    durable.set_var("progress", {"done": 1, "of": 2})
    durable.set_status(Stage.WAITING)
    durable.publish("orders", {"id": 7}, key="k", headers={"h": "1"})
    word = await go.receive()
    durable.set_var("progress", {"done": 2, "of": 2})
    durable.set_var("word", word)
    durable.set_status(Stage.SHIPPED)
    durable.publish("orders", {"id": 8}, key="k")
    return word


@durable.workflow
async def two_steps(key: str) -> int:
    """One that waits, and another."""
    await hold(key)
    return await echo(2, f"{key} second")


# --- cancelling -----------------------------------------------------------------------------------------------------


@durable.workflow
async def cleans_up(key: str, saved: bool) -> str:
    """Cleans up when it is cancelled, and then ends as cancelled or goes on."""
    try:
        await hold(key)
    except asyncio.CancelledError:
        await echo(1, f"{key} cleaned")
        durable.set_status("cleaned")
        if not saved:
            raise
    return "saved"


# --- families -------------------------------------------------------------------------------------------------------


@durable.workflow
async def child(value: int) -> int:
    """Ends well, or not."""
    if value < 0:
        raise CardDeclined(f"{value} cents")
    return await echo(value)


@durable.workflow
async def parent() -> list[object]:
    """Children: awaited, started, failing, with an id that is taken."""
    started = durable.start(child, 5)
    results: list[object] = [await child(1), await child.options(id=f"{durable.info().instance_id}-named")(2)]
    try:
        await child(-3)
    except CardDeclined as error:
        results.append(str(error))
    try:
        await durable.start(child, 4, id=durable.info().instance_id)
    except durable.InstanceAlreadyExists:
        results.append("taken")
    return [*results, await started]


@durable.workflow
async def leaves_children(prefix: str) -> str:
    """Ends before its children, each with another policy."""
    policies: tuple[Literal["terminate", "cancel", "abandon"], ...] = ("terminate", "cancel", "abandon")
    for policy in policies:
        kept = durable.start(held_child, prefix, policy, id=f"{prefix}-{policy}", parent_close=policy)
        await kept.started()
    return await go.receive()


@durable.workflow
async def held_child(prefix: str, policy: str) -> str:
    """Waits for a word; says so when it is cancelled."""
    try:
        return await go.receive()
    except asyncio.CancelledError:
        durable.set_status("asked to cancel")
        raise


@durable.workflow
async def collects(seen: list[int], need: int) -> list[int]:
    """Two signals in each run, until there are enough: continue-as-new keeps the rest."""
    for _ in range(2):
        seen.append(await tick.receive())
        if len(seen) == need:
            return seen
    durable.continue_as_new(seen, need)
    raise AssertionError("not reached")


# --- what waits for others ------------------------------------------------------------------------------------------


@durable.workflow
async def charges(once: bool) -> int:
    """Waits for an activity of another queue, which may have to run at most once."""
    return await echo.options(queue="later", at_most_once=once)(7)


@durable.workflow
async def waits_for_child() -> int:
    """Waits for a child of another queue."""
    return await child.options(queue="later")(5)


@durable.workflow
async def waits_for_word(id: str) -> str:
    """Waits for a child that waits for a signal."""
    return await hears.options(id=id)()


# --- asking ---------------------------------------------------------------------------------------------------------


@durable.workflow
async def answers() -> list[int]:
    """Queries and updates."""
    items: list[int] = []

    @durable.query
    def total(factor: int = 1) -> int:
        return sum(items) * factor

    @durable.update
    async def add(item: int) -> int:
        items.append(await echo(item))
        return len(items)

    @add.validator
    def _check(item: int) -> None:
        if item < 0:
            raise ValueError("negative")

    await go.receive()
    return items


# --- changing code --------------------------------------------------------------------------------------------------


@durable.workflow(name="deployed")
async def deployed_before() -> list[str]:
    """The code before the deployment."""
    await echo(1)
    return [await go.receive()]


@durable.workflow(name="deployed")
async def deployed_after() -> list[str]:
    """The code after it."""
    await echo(1)
    word = await go.receive()
    if durable.patched("note"):
        await echo(2)
        return [word, "noted"]
    return [word]


@durable.workflow(name="broken")
async def broken_before() -> int:
    """Does one thing."""
    value = await echo(1)
    await go.receive()
    return value


@durable.workflow(name="broken")
async def broken_after() -> int:
    """Does another thing in its place."""
    value = await in_thread(1)
    await go.receive()
    return value


ALL: tuple[durable.Workflow[..., object] | durable.Activity[..., object], ...] = (
    echo, in_thread, flaky, final, hold, resumes, finished_elsewhere,
    sequence, fan_out, one_by_one, retried, catches, times_out, goes_on_from_heartbeat, waits_for_elsewhere,
    sleeper, wakes_in_order, until, approvals, at_the_end, conditional, sender, hears, records, shows, two_steps,
    cleans_up, child, parent, leaves_children, held_child, collects, charges, waits_for_child, waits_for_word,
    answers,
)  # fmt: skip
"""What every worker of the kit has; of code that changes, each law chooses the one that it wants."""
CODE_NOW: tuple[durable.Workflow[..., object], ...] = (
    *(one for one in ALL if isinstance(one, durable.Workflow)), deployed_after, broken_before,
)  # fmt: skip
"""The workflows that have to go on with every history that a law leaves."""
