from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

import durable
from durable.backends.records import Answer, Busy, InstanceRef, Lost, Message, NewMessage, Pause
from durable.client.client import Client
from durable.client.instance import Description
from durable.core.commands import ContinueRun
from durable.core.events import SignalReceived
from durable.core.replay import Outcome
from durable.errors import BackendError
from durable.worker.births import Births
from durable.worker.warm import Taken
from durable.worker.workflow_tasks import WorkflowTasks, _pieces
from tests.worker.stores import Store, connected, until

go: durable.Signal[int] = durable.Signal("go", int)


@pytest.fixture
async def ends() -> AsyncIterator[tuple[Client, Store]]:
    async with connected() as both:
        yield both


@durable.activity
async def double(number: int) -> int:
    return number * 2


@durable.workflow
async def adds(rounds: int = 3) -> int:
    total = 0
    for number in range(rounds):
        total += await double(number)
        await asyncio.sleep(0.001)
    return total + await go.receive()


@durable.workflow
async def waits() -> int:
    return await go.receive()


@pytest.mark.parametrize("cache_size", [0, 1, 1000])
async def test_the_cache_changes_nothing(ends: tuple[Client, Store], cache_size: int) -> None:
    client, _ = ends
    async with durable.Worker(client, [adds, double], cache_size=cache_size):
        instances = [await client.create_instance(adds, id=f"i-{n}") for n in range(5)]
        for instance in instances:
            await instance.signal(go, 10)
        assert [await instance.result(timeout=10) for instance in instances] == [16] * 5
        kinds = [event.kind for event in await instances[0].history()]
    assert sorted(kinds) == sorted(
        ["run_started", "signal_received", "run_completed"]
        + ["activity_scheduled", "activity_completed", "timer_started", "timer_fired"] * 3
    )
    assert [event.number for event in await instances[0].history()] == list(range(1, len(kinds) + 1))


async def test_eviction_writes_nothing(ends: tuple[Client, Store]) -> None:
    client, store = ends
    async with durable.Worker(client, [waits], cache_size=0):
        instance = await client.create_instance(waits)
        await until(lambda: "commit" in store.calls)
        commits = store.calls.count("commit")
        before = await instance.history()
        await asyncio.sleep(0.05)
        assert store.calls.count("commit") == commits and await instance.history() == before
        await instance.signal(go, 1)
        assert await instance.result(timeout=5) == 1


async def test_runs_of_unknown_workflows_wait_for_who_has_the_code(ends: tuple[Client, Store]) -> None:
    client, store = ends
    instance = await client.create_instance("waits")
    async with durable.Worker(client, [adds, double]):
        await until(lambda: store.calls.count("claim_workflow_tasks") > 1)
        described = await instance.describe()
        assert (described.state, described.history_length) == ("running", 1)
    async with durable.Worker(client, [waits]):
        await instance.signal(go, 2)
        assert await instance.result(timeout=5) == 2


async def test_published_once_although_every_task_replays(ends: tuple[Client, Store]) -> None:
    client, store = ends

    @durable.workflow
    async def tells() -> int:
        durable.publish("orders", {"id": 1})
        return await go.receive() + await go.receive()

    published: list[str] = []

    async def watch(method: Any, checkpoints: Any) -> Any:
        published.extend(event.id for one in checkpoints for event in one.outbox)
        return await method(checkpoints)

    store.hooks["commit"] = watch
    async with durable.Worker(client, [tells], cache_size=0):
        instance = await client.create_instance(tells)
        await until(lambda: published)
        await instance.signal(go, 1)
        await instance.signal(go, 2)
        assert await instance.result(timeout=5) == 3
    assert len(published) == 1


# --- verdicts -------------------------------------------------------------------------------------------------------


async def test_a_lost_reply_of_a_commit_has_one_effect(ends: tuple[Client, Store]) -> None:
    client, store = ends
    lost: list[int] = []

    async def loses(method: Any, checkpoints: Any) -> Any:
        answer = await method(checkpoints)
        if len(lost) < 4:
            lost.append(1)
            raise BackendError("the connection broke after the commit")
        return answer

    store.hooks["commit"] = loses
    async with durable.Worker(client, [adds, double]):
        instance = await client.create_instance(adds)
        await instance.signal(go, 10)
        assert await instance.result(timeout=10) == 16
    assert [event.number for event in await instance.history()] == list(range(1, 16))


async def test_busy_is_sent_again(ends: tuple[Client, Store]) -> None:
    client, store = ends
    answered: list[int] = []

    def sometimes_busy(name: str) -> Any:
        async def busy(method: Any, items: Any) -> Any:
            if name not in seen:
                seen.add(name)
                answered.append(1)
                return Answer(now_us=0, items=[Busy() for _ in items])
            return await method(items)

        return busy

    seen: set[str] = set()
    for name in ("commit", "create", "send", "change", "finish_activities"):
        store.hooks[name] = sometimes_busy(name)
    async with durable.Worker(client, [adds]), durable.Worker(client, [double]):
        instance = await client.create_instance(adds)
        await instance.pause()
        await instance.resume()
        await instance.signal(go, 10)
        assert await instance.result(timeout=10) == 16
    assert seen == {"commit", "create", "send", "change", "finish_activities"}


async def test_a_lost_head_evicts_and_the_run_goes_on(ends: tuple[Client, Store]) -> None:
    client, store = ends
    lost: list[int] = []

    async def loses(method: Any, checkpoints: Any) -> Any:
        if len(lost) < 3:
            lost.append(1)
            return Answer(now_us=store.clock(), items=[Lost() for _ in checkpoints])
        return await method(checkpoints)

    store.hooks["commit"] = loses
    async with durable.Worker(client, [adds, double]):
        instance = await client.create_instance(adds)
        await instance.signal(go, 10)
        assert await instance.result(timeout=10) == 16


async def test_a_run_that_is_paused_while_it_is_written_is_dropped(ends: tuple[Client, Store]) -> None:
    client, store = ends

    async def pauses(method: Any, checkpoints: Any) -> Any:
        del store.hooks["commit"]
        await store.real.change([Pause(ref=InstanceRef(instance_id="i"))])
        return await method(checkpoints)

    store.hooks["commit"] = pauses
    async with durable.Worker(client, [adds, double]):
        instance = await client.create_instance(adds, id="i")
        await instance.signal(go, 10)
        await until(lambda: "commit" in store.calls)
        assert (await instance.describe()).state == "paused"
        await instance.resume()
        assert await instance.result(timeout=10) == 16


@pytest.mark.parametrize("cache_size", [0, 1000])
async def test_a_signal_that_arrives_while_the_run_ends_is_seen_or_its_sender_knows(
    ends: tuple[Client, Store], cache_size: int
) -> None:
    client, store = ends

    @durable.workflow
    async def collects() -> list[int]:
        seen = [await go.receive()]
        while (more := go.receive_nowait()) is not None:
            seen.append(more)
        return seen

    async def late(method: Any, checkpoints: Any) -> Any:
        if any(one.close for one in checkpoints) and len(sent) < 3:
            number = len(sent) + 2
            sent.append(number)
            await instance.signal(go, number)
        return await method(checkpoints)

    sent: list[int] = []
    store.hooks["commit"] = late
    async with durable.Worker(client, [collects], cache_size=cache_size):
        instance = await client.create_instance(collects)
        await instance.signal(go, 1)
        found = await instance.result(timeout=10)
        assert (len(sent) == 3 and sorted(found) == [1, 2, 3, 4]) or set(found) | {1} == {1, 2, 3, 4}
        with pytest.raises(durable.InstanceFinished):
            await instance.signal(go, 9)


@pytest.mark.parametrize("delay_reply", [False, True])
async def test_a_claim_that_meets_a_commit_on_its_way_loses_nothing(
    ends: tuple[Client, Store], delay_reply: bool
) -> None:
    client, store = ends

    @durable.workflow
    async def collects() -> list[int]:
        return [await go.receive() for _ in range(6)]

    async def slow(method: Any, checkpoints: Any) -> Any:
        """Signals and claims come between the step and the commit, or between the commit and its reply."""
        answer = await method(checkpoints) if delay_reply else None
        if sent and sent[-1] < 6:
            sent.append(sent[-1] + 1)
            with contextlib.suppress(durable.InstanceFinished):
                await instance.signal(go, sent[-1])
            for _ in range(20):
                await asyncio.sleep(0)
        return answer or await method(checkpoints)

    sent: list[int] = []
    async with durable.Worker(client, [collects], cache_size=0):
        instance = await client.create_instance(collects)
        await until(lambda: "commit" in store.calls)
        store.hooks["commit"] = slow
        sent.append(1)
        await instance.signal(go, 1)
        assert await instance.result(timeout=5) == [1, 2, 3, 4, 5, 6]


@pytest.fixture
def claimed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is born leased to its worker: all that begins was claimed."""
    monkeypatch.setattr(Births, "lease_for", lambda self, new: None)


async def without_events(method: Any, *args: Any) -> Any:
    """A claim that brings no histories: they are to be read."""
    answer = await method(*args)
    return replace(answer, items=[replace(item, events=None) for item in answer.items])


async def test_a_read_that_fails_loses_no_claim(ends: tuple[Client, Store], claimed: None) -> None:
    client, store = ends
    failures: list[int] = []

    async def fails(method: Any, ranges: Any) -> Any:
        if len(failures) < 2:
            failures.append(1)
            raise BackendError("out of reach")
        return await method(ranges)

    store.hooks |= {"read_history": fails, "claim_workflow_tasks": without_events}
    async with durable.Worker(client, [waits]):
        instance = await client.create_instance(waits)
        await instance.signal(go, 3)
        assert await instance.result(timeout=5) == 3
    assert len(failures) == 2


async def test_a_claim_that_fails_unforeseen_does_not_end_the_worker(
    ends: tuple[Client, Store], caplog: pytest.LogCaptureFixture
) -> None:
    client, store = ends

    async def fails(method: Any, *args: Any) -> Any:
        store.hooks.clear()
        raise ZeroDivisionError("a bug of the store's")

    store.hooks["claim_workflow_tasks"] = fails
    async with durable.Worker(client, [waits]):
        instance = await client.create_instance(waits)
        await instance.signal(go, 3)
        assert await instance.result(timeout=5) == 3
    assert "a bug of the store's" in caplog.text


# --- stalls ---------------------------------------------------------------------------------------------------------


def versions() -> tuple[Any, Any]:
    @durable.workflow(name="w")
    async def old() -> int:
        return await double(await go.receive())

    @durable.workflow(name="w")
    async def new() -> int:
        await asyncio.sleep(1000)
        return await double(await go.receive())

    return old, new


async def stalled(instance: durable.Instance[Any]) -> bool:
    return (await instance.describe()).state == "stalled"


async def test_a_diverging_run_is_parked_and_another_code_takes_it_up(ends: tuple[Client, Store]) -> None:
    client, store = ends
    old, new = versions()
    async with durable.Worker(client, [old]):
        instance = await client.create_instance(old)
        other = await client.create_instance(old)
        await instance.signal(go, 4)
        await until(lambda: store.calls.count("commit") >= 2)
    before = await instance.history()
    async with durable.Worker(client, [new, double, waits]):
        await until(lambda: stalled(instance), "the stall")
        healthy = await client.create_instance(waits)
        await healthy.signal(go, 1)
        assert await healthy.result(timeout=5) == 1
    problem = (await instance.describe()).problem
    assert problem is not None and problem.file == __file__ and problem.line > 0
    assert "timer_started" in problem.actual and "nothing more" in problem.expected
    assert await instance.history() == before, "nothing was written"
    async with durable.Worker(client, [old, double]):
        assert await instance.result(timeout=5) == 8
        await other.signal(go, 5)
        assert await other.result(timeout=5) == 10


async def test_a_lost_reply_to_a_claim_of_stalled_runs_costs_no_lease(
    ends: tuple[Client, Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    client, store = ends
    monkeypatch.setattr("durable.worker.upkeep.STALLED_AGAIN_SECONDS", 0.01)

    @durable.workflow(name="changes")
    async def first() -> int:
        return await go.receive()

    @durable.workflow(name="changes")
    async def other() -> int:
        await asyncio.sleep(1)
        return await go.receive()

    async with durable.Worker(client, [other]):
        instance = await client.create_instance("changes")
        await until(lambda: _has_timer(instance))
    await instance.signal(go, 7)
    async with durable.Worker(client, [first]):
        await _stalled(instance)
    lost: list[int] = []

    async def lose(method: Any, *args: Any, **kwargs: Any) -> Any:
        lost.append(len((await method(*args, **kwargs)).items))
        del store.hooks["claim_stalled_tasks"]
        raise BackendError("the connection is gone")

    store.hooks["claim_stalled_tasks"] = lose
    async with durable.Worker(client, [other]):
        await until(lambda: _is(instance, "running"))
        store.skip(2)
        assert await instance.result(timeout=5) == 7
    assert lost == [1]


async def _has_timer(instance: durable.Instance[Any]) -> bool:
    return "timer_started" in [event.kind for event in await instance.history()]


async def test_a_poisoned_history_parks_its_own_instance_only(
    ends: tuple[Client, Store], claimed: None
) -> None:
    client, store = ends

    async def poisoned(method: Any, ranges: Any) -> Any:
        answer = await method(ranges)
        return replace(
            answer, items=[replace(s, events=(b"{",)) if s.instance_id == "bad" else s for s in answer.items]
        )

    store.hooks |= {"read_history": poisoned, "claim_workflow_tasks": without_events}
    async with durable.Worker(client, [waits]):
        bad, good = [await client.create_instance(waits, id=name) for name in ("bad", "good")]
        await good.signal(go, 1)
        assert await good.result(timeout=5) == 1
        await until(lambda: stalled(bad), "the stall")
    problem = (await bad.describe()).problem
    assert problem is not None and "event 1 of the history" in problem.message


@pytest.mark.parametrize(
    ("kind", "body"), [("signal", "{"), ("from_the_future", "{}"), ("signal", '{"format":9}')]
)
async def test_a_message_that_cannot_be_read_parks_its_instance(
    ends: tuple[Client, Store], kind: str, body: str
) -> None:
    client, store = ends
    async with durable.Worker(client, [waits]):
        instance = await client.create_instance(waits, id="i")
        await store.send([NewMessage(instance_id="i", key="k", kind=kind, body=body)])
        await until(lambda: stalled(instance), "the stall")
        good = await client.create_instance(waits)
        await good.signal(go, 1)
        assert await good.result(timeout=5) == 1


async def test_a_process_in_trouble_drops_the_run_and_writes_nothing(ends: tuple[Client, Store]) -> None:
    client, store = ends
    troubles: list[int] = []

    @durable.workflow
    async def troubled() -> str:
        if len(troubles) < 2:
            troubles.append(1)
            raise MemoryError
        return "in the end"

    async with durable.Worker(client, [troubled]):
        instance = await client.create_instance(troubled)
        await until(lambda: troubles)
        await asyncio.sleep(0.01)
        described = await instance.describe()
        assert (described.state, described.history_length) == ("running", 1)
        await until(lambda: store.skip(20) or len(troubles) == 2)
        await until(lambda: store.skip(20) or _ended(instance))
        assert await instance.result(timeout=5) == "in the end"


async def test_a_run_that_calls_itself_too_deeply_is_parked_at_once_and_tells_where(
    ends: tuple[Client, Store],
) -> None:
    client, _ = ends
    deep = [True]

    def descends(depth: int) -> int:
        return descends(depth + 1) if deep else depth

    @durable.workflow
    async def digs() -> int:
        return descends(0)

    async with durable.Worker(client, [digs]):
        instance = await client.create_instance(digs)
        described = await _stalled(instance)
        assert described.problem is not None and described.history_length == 1
        assert "RecursionError" in str(described.problem)
        line = descends.__code__.co_firstlineno + 1
        assert (described.problem.file, described.problem.line) == (__file__, line)
        deep.clear()
        await instance.resume()
        assert await instance.result(timeout=5) == 0


@pytest.mark.parametrize("limit", ["EVENTS", "BYTES"])
@pytest.mark.parametrize("room", [-1, 0, 1])
@pytest.mark.parametrize("cache_size", [0, 10])
async def test_a_history_has_limits(
    ends: tuple[Client, Store], monkeypatch: pytest.MonkeyPatch, limit: str, room: int, cache_size: int
) -> None:
    client, store = ends

    @durable.workflow
    async def doubles() -> int:
        return sum([await double(number) for number in range(3)])

    async with durable.Worker(client, [doubles, double], cache_size=cache_size):
        first = await client.create_instance(doubles, id="first")
        assert await first.result(timeout=5) == 6
        (view,) = (await store.get([InstanceRef(instance_id="first")])).items
        size = view.head.number if limit == "EVENTS" else view.history_bytes
        monkeypatch.setattr(f"durable.worker.workflow_tasks.MAX_HISTORY_{limit}", size + room)
        second = await client.create_instance(doubles, id="other")
        if room < 0:
            assert f"would pass {size + room} {limit.lower()}" in str((await _stalled(second)).problem)
        else:
            assert await second.result(timeout=5) == 6


async def _stalled(instance: durable.Instance[Any]) -> Description:
    await until(lambda: _is(instance, "stalled"))
    return await instance.describe()


async def _is(instance: durable.Instance[Any], state: str) -> bool:
    return (await instance.describe()).state == state


async def _ended(instance: durable.Instance[Any]) -> bool:
    return (await instance.describe()).state == "completed"


async def test_arguments_that_cannot_be_decoded_park_the_run(ends: tuple[Client, Store]) -> None:
    client, _ = ends
    async with durable.Worker(client, [adds, double]):
        instance = await client.create_instance("adds", "no number")
        await until(lambda: stalled(instance), "the stall")


# --- children -------------------------------------------------------------------------------------------------------


@durable.workflow
async def child(number: int) -> int:
    return await double(number)


@durable.workflow
async def parent() -> list[Any]:
    first = durable.start(child, 1, id="first-child")
    await first.started()
    return [await first, await child(2), durable.info().parent]


async def test_children(ends: tuple[Client, Store]) -> None:
    client, _ = ends
    async with durable.Worker(client, [parent, child, double]):
        instance = await client.create_instance(parent)
        assert await instance.result(timeout=5) == [2, 4, None]
        described = await client.get_instance("first-child").describe()
    assert described.parent == (instance.id, instance.run_id) and described.state == "completed"


@pytest.mark.parametrize(
    ("policy", "state"), [("terminate", "terminated"), ("cancel", "cancelled"), ("abandon", "running")]
)
async def test_what_the_end_of_a_parent_means(ends: tuple[Client, Store], policy: Any, state: str) -> None:
    client, _ = ends

    @durable.workflow
    async def leaves() -> None:
        await durable.start(waits, id="child", parent_close=policy).started()

    async with durable.Worker(client, [leaves, waits]):
        await (await client.create_instance(leaves)).result(timeout=5)
        one = client.get_instance("child")

        async def there() -> bool:
            return (await one.describe()).state == state

        await until(there, state)
        if policy == "abandon":
            await one.signal(go, 1)
            assert await one.result(timeout=5) == 1


async def test_continue_as_new_is_followed(ends: tuple[Client, Store]) -> None:
    client, _ = ends

    @durable.workflow
    async def counts(number: int) -> int:
        got = await go.receive()
        if number < 3:
            durable.continue_as_new(number + got)
        return number

    async with durable.Worker(client, [counts]):
        instance = await client.create_instance(counts, 1, id="c")
        for _ in range(3):
            await instance.signal(go, 1)
        assert await instance.result(timeout=5) == 3
        assert (await client.get_instance("c").describe()).state == "completed"
        assert (await client.get_instance("c", instance.run_id).describe()).state == "continued_as_new"


@pytest.mark.parametrize("where", ["_write", "_accepted"])
async def test_a_mistake_of_the_engines_own_hurts_one_step_and_no_neighbour(
    ends: tuple[Client, Store], where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, _ = ends
    real: Any = getattr(WorkflowTasks, where)
    failed: list[str] = []

    def once(self: WorkflowTasks, warm: Any, *others: Any) -> None:
        if warm.task.instance_id == "i-1" and not failed:
            failed.append(where)
            raise AttributeError("planted")
        real(self, warm, *others)

    monkeypatch.setattr(WorkflowTasks, where, once)
    instances = [await client.create_instance(adds, id=f"i-{n}") for n in range(3)]
    async with durable.Worker(client, [adds, double], lease=0.3):
        for instance in instances:
            await instance.signal(go, 10)
        assert [await instance.result(timeout=20) for instance in instances] == [16] * 3
    assert failed == [where]


async def test_an_activity_that_is_scheduled_and_cancelled_in_one_checkpoint_never_runs(
    ends: tuple[Client, Store],
) -> None:
    """A cancel that waits beside the start: the code begins, asks for the activity, and is cancelled at its await."""
    client, _ = ends
    ran: list[int] = []

    @durable.activity
    async def charge() -> None:
        ran.append(1)

    @durable.workflow
    async def shop() -> str:
        try:
            await charge()
        except asyncio.CancelledError:
            await durable.sleep(0.01)
            return "cancelled"
        return "charged"

    instance = await client.create_instance(shop, id="early")
    await instance.cancel("too late for you")
    async with durable.Worker(client, [shop, charge]):
        assert await instance.result(timeout=10) == "cancelled"
    assert ran == []
    assert (await client.stats()).activity_tasks == {}


async def test_what_waits_together_may_be_more_than_a_checkpoint_holds(ends: tuple[Client, Store]) -> None:
    client, _ = ends
    big: durable.Signal[str] = durable.Signal("big", str)

    @durable.activity
    async def letter() -> str:
        return "y" * 1_800_000

    @durable.workflow
    async def reads() -> int:
        total = sum([len(await big.receive()) for _ in range(6)])
        return total + sum(map(len, await asyncio.gather(*(letter() for _ in range(6)))))

    instance = await client.create_instance(reads, id="much")
    for _ in range(6):
        await instance.signal(big, "x" * 1_800_000)
    async with durable.Worker(client, [reads, letter]):
        assert await instance.result(timeout=20) == 12 * 1_800_000


@durable.activity
async def measures(text: str) -> int:
    return len(text)


@durable.workflow
async def asks_for_much(count: int) -> str:
    """Every answer asks for a large thing at once; signals come in between."""
    durable.set_status("asking")

    async def chain(number: int) -> int:
        await go.receive()
        return await measures("x" * 1_000_000)

    return str(sum(await asyncio.gather(*(chain(number) for number in range(count)))))


@pytest.mark.parametrize("cache_size", [0, 1000])
@pytest.mark.parametrize("lost", [None, Lost(), BackendError("the connection is gone")], ids=str)
async def test_what_is_asked_for_together_may_be_more_than_a_checkpoint_holds(
    ends: tuple[Client, Store], cache_size: int, lost: Any
) -> None:
    client, store = ends
    instance = await client.create_instance(asks_for_much, 9)
    commits: list[int] = []

    async def once_lost(method: Any, checkpoints: Any) -> Any:
        commits.append(len(checkpoints[0].events))
        if len(commits) == 3 and lost is not None:
            answer = await method(checkpoints) if isinstance(lost, BackendError) else None
            if answer is not None:
                raise lost
            return Answer(items=[lost], now_us=store.clock())
        return await method(checkpoints)

    for number in range(9):
        await instance.signal(go, number)
    store.hooks["commit"] = once_lost
    async with durable.Worker(client, [asks_for_much, measures], cache_size=cache_size):
        assert await instance.result(timeout=20) == "9000000"
    kinds = [event.kind for event in await instance.history()]
    assert (kinds.count("signal_received"), kinds.count("activity_scheduled")) == (9, 9)
    assert max(commits) <= 8, "no checkpoint was too full"


def test_messages_are_seen_when_the_last_checkpoint_of_a_step_is_written() -> None:
    """A worker that dies in between leaves the rest to the next one, which is told of it."""
    inputs: list[Any] = [SignalReceived(time_us=number, name="go", payload="1") for number in range(4)]
    messages = tuple(
        Message(number=number + 5, key="k", kind="signal", body="", sent_at_us=number) for number in range(4)
    )
    end = ContinueRun(run_id="r", args="[]")
    outcome = Outcome(
        events=(),
        commands=(),
        inputs=1,
        further=(
            Outcome(events=(), commands=(), inputs=1),
            Outcome(events=(), commands=(), inputs=2, end=end, left=(inputs[3],)),
        ),
    )
    taken = Taken(messages=messages, results=())
    pieces = _pieces(outcome, inputs, taken, inputs, before=4, seen=8)
    assert [(piece.consumed, piece.seen) for piece in pieces] == [((5,), 4), ((6,), 4), ((7,), 8)]
    assert [len(piece.taken.messages) for piece in pieces] == [1, 1, 2]


async def test_an_activity_result_that_waits_for_the_next_checkpoint_is_not_lost(
    ends: tuple[Client, Store],
) -> None:
    client, store = ends
    together = asyncio.Event()

    @durable.activity
    async def asks(number: int) -> int:
        await together.wait()
        return number

    @durable.workflow
    async def two_steps() -> int:
        async def chain(number: int) -> int:
            return await measures("x" * (await asks(number) + 1_000_000))

        return sum(await asyncio.gather(*(chain(number) for number in range(9))))

    async def paused_between(method: Any, checkpoints: Any) -> Any:
        answer = await method(checkpoints)
        if len(checkpoints[0].absorbed) > 1 and instance.id not in paused:
            paused.append(instance.id)
            await instance.pause()
        return answer

    paused: list[str] = []
    store.hooks["commit"] = paused_between
    async with durable.Worker(client, [two_steps, asks, measures]):
        instance = await client.create_instance(two_steps)
        await until(lambda: _has(instance, "activity_scheduled"))
        together.set()
        await until(lambda: _is(instance, "paused"))
        await instance.resume()
        assert await instance.result(timeout=8) == 9_000_036, "and no lease had to run out"


async def _has(instance: durable.Instance[Any], kind: str) -> bool:
    return kind in [event.kind for event in await instance.history()]


async def test_what_one_step_asks_for_beyond_a_checkpoint_raises_in_the_code(
    ends: tuple[Client, Store],
) -> None:
    client, _ = ends

    @durable.workflow
    async def greedy() -> int:
        return sum(await asyncio.gather(*(measures("x" * 1_000_000) for _ in range(9))))

    async with durable.Worker(client, [greedy, measures]):
        instance = await client.create_instance(greedy)
        with pytest.raises(durable.WorkflowFailed) as caught:
            await instance.result(timeout=10)
    assert isinstance(caught.value.__cause__, durable.PayloadTooLarge)
    assert "wait for some of it" in str(caught.value.__cause__)


async def test_a_workflow_that_exits_ends_no_neighbour(ends: tuple[Client, Store]) -> None:
    client, _ = ends

    @durable.workflow
    async def exits() -> None:
        raise SystemExit(3)

    await client.create_instance(exits, id="exits")
    async with durable.Worker(client, [exits, waits]):
        good = await client.create_instance(waits, id="good")
        await good.signal(go, 1)
        assert await good.result(timeout=5) == 1
