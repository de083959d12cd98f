from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, MutableMapping
from contextvars import ContextVar
from datetime import UTC, datetime, timedelta

import pytest

import durable
from durable.testing import Environment, Stuck
from durable.testing.thorough import replay_thoroughly
from tests.testing import other_definitions

DAY = 24 * 3600.0
approve: durable.Signal[str] = durable.Signal("approve", str)
declined = 0


class CardDeclined(Exception):
    pass


@durable.activity
async def charge(customer: str, cents: int) -> str:
    raise AssertionError("a test must not charge anybody")


@durable.activity
async def greet(name: str) -> str:
    return f"hello {name}"


@durable.workflow
async def subscription(customer: str, days: int) -> list[str]:
    receipts = []
    for _ in range(days):
        await asyncio.sleep(DAY)
        receipts.append(await charge(customer, 100))
    return receipts


@durable.workflow
async def greeting(name: str) -> str:
    return await greet(name)


@durable.workflow
async def approval(days: float) -> str:
    durable.set_status("waiting")

    @durable.query
    def question() -> str:
        return "well?"

    try:
        async with asyncio.timeout(days * DAY):
            return await approve.receive()
    except TimeoutError:
        return "nobody"


@durable.workflow
async def patient() -> str:
    return await approve.receive()


@durable.workflow
async def parent(name: str) -> str:
    return "child said " + await greeting(name)


class Shop:
    def __init__(self, stock: int) -> None:
        self.stock = stock

    @durable.activity
    async def count(self) -> int:
        return self.stock


shop = Shop(3)


@durable.workflow
async def shopping() -> list[object]:
    return [await shop.count(), await other_definitions.as_text(2)]


@pytest.fixture
async def env() -> AsyncIterator[Environment]:
    async with Environment([subscription, greeting, approval, patient, parent, greet], patience=0.05) as env:
        yield env


# --- time


async def test_a_month_takes_milliseconds(env: Environment) -> None:
    env.mock(charge, "ok")
    began, begun = time.monotonic(), env.now
    assert await env.run(subscription, "ann", 30) == ["ok"] * 30
    assert env.now - begun == timedelta(days=30)
    assert time.monotonic() - began < 2


async def test_the_start_is_frozen() -> None:
    @durable.workflow
    async def when() -> datetime:
        return durable.now()

    start = datetime(2031, 5, 6, 7, 8, 9, 10, tzinfo=UTC)
    async with Environment([when], now=start) as env:
        await asyncio.sleep(0.01)
        assert env.now == start
        assert await env.run(when) == start


async def test_time_stands_still_while_nobody_waits(env: Environment) -> None:
    instance = await env.start(approval, 3)
    await asyncio.sleep(0.05)
    await env.settle()
    assert (await instance.describe()).state == "running"
    await instance.signal(approve, "ann")
    assert await instance == "ann"


async def test_advance_stops_where_it_is_told_to(env: Environment) -> None:
    mocked = env.mock(charge, "ok")
    instance = await env.start(subscription, "ann", 30)
    await env.advance(timedelta(days=10, hours=12))
    assert mocked.call_count == 10
    await env.advance(DAY / 2)
    assert mocked.call_count == 11
    await env.advance(datetime(2024, 1, 13, tzinfo=UTC))
    assert mocked.call_count == 12
    with pytest.raises(ValueError, match="is over"):
        await env.advance(datetime(2024, 1, 12, tzinfo=UTC))
    assert len(await instance) == 30


async def test_two_environments_are_equal_to_the_last_random_number() -> None:
    @durable.workflow
    async def dice() -> tuple[float, str]:
        return durable.random().random(), str(durable.uuid4())

    results = []
    for seed in (1, 1, 2):
        async with Environment([dice], seed=seed) as env:
            results.append(await env.run(dice))
    assert results[0] == results[1] != results[2]


async def test_time_waits_for_a_real_activity(env: Environment) -> None:
    release = asyncio.Event()

    @durable.activity
    async def real() -> str:
        await release.wait()
        return "done"

    @durable.workflow
    async def impatient() -> str:
        async with asyncio.timeout(5):
            return await real()

    env.register(real, impatient)
    waiting = asyncio.ensure_future(env.run(impatient))
    await asyncio.sleep(0.1)
    assert env.now == datetime(2024, 1, 1, tzinfo=UTC)
    release.set()
    assert await waiting == "done"


async def test_a_plain_function_in_a_thread_is_waited_for(env: Environment) -> None:
    @durable.activity
    def slow() -> str:
        time.sleep(0.05)
        return "done"

    @durable.workflow
    async def impatient() -> str:
        async with asyncio.timeout(5):
            return await slow()

    env.register(slow, impatient)
    assert await env.run(impatient) == "done"
    assert env.now == datetime(2024, 1, 1, tzinfo=UTC)


async def test_time_waits_for_what_ended_just_now() -> None:
    """Whichever pass of the loop it ends in: what it gave is still on its way to the store then."""

    @durable.activity
    async def brief(passes: int) -> str:
        for _ in range(passes):
            await asyncio.sleep(0)
        return "done"

    @durable.workflow
    async def impatient(passes: int) -> str:
        async with asyncio.timeout(5):
            return await brief(passes)

    for passes in range(90):
        async with Environment([brief, impatient]) as env:
            assert await env.run(impatient, passes) == "done"
            assert env.now == datetime(2024, 1, 1, tzinfo=UTC), passes


async def test_instances_of_one_environment_share_its_time(env: Environment) -> None:
    mocked = env.mock(charge, "ok")
    first = await env.start(subscription, "ann", 2)
    second = await env.start(subscription, "bob", 3)
    assert [len(result) for result in await asyncio.gather(second, first)] == [3, 2]
    assert [call.args[0] for call in mocked.calls] == ["ann", "bob", "ann", "bob", "bob"]


async def test_start_at_and_timeout_are_virtual(env: Environment) -> None:
    later = env.now + timedelta(days=2)
    assert await (await env.start(greeting, "ann", start_at=later)) == "hello ann"
    assert env.now == later
    with pytest.raises(durable.WorkflowFailed, match="timeout"):
        await env.run(patient, timeout=DAY)
    assert env.now == later + timedelta(days=1)


async def test_signals_at_given_times(env: Environment) -> None:
    instance = await env.start(approval, 3)
    env.signal_at(timedelta(days=2), instance, approve, "ann")
    assert await instance == "ann"
    assert env.now == datetime(2024, 1, 3, tzinfo=UTC)
    late = await env.start(approval, 3)
    env.signal_at(timedelta(days=4), late, approve, "ann")
    assert await late == "nobody"


async def test_a_signal_and_a_timer_of_one_moment_are_always_in_the_same_order(env: Environment) -> None:
    for _ in range(5):
        instance = await env.start(approval, 3)
        env.signal_at(timedelta(days=3), instance, approve, "ann")
        assert await instance == "ann"


async def test_what_a_call_at_a_time_raises_is_the_tests(env: Environment) -> None:
    async def wrong() -> None:
        raise LookupError("no such order")

    env.at(5, wrong)
    with pytest.raises(LookupError, match="no such order"):
        await env.advance(10)
    env.at(5, wrong)
    with pytest.raises(LookupError, match="no such order"):
        await env.run(approval, 1)


async def test_an_update_lets_time_go_on(env: Environment) -> None:
    @durable.workflow
    async def counter() -> int:
        total = 0

        @durable.update
        async def add(value: int) -> int:
            nonlocal total
            await asyncio.sleep(3600)
            total += value
            return total

        await durable.wait_condition(lambda: total > 4)
        return total

    env.register(counter)
    instance = await env.start(counter)
    assert await instance.update("add", 2) == 2
    assert await instance.update("add", 3) == 5
    assert await instance == 5
    assert env.now == datetime(2024, 1, 1, 2, tzinfo=UTC)


async def test_no_time_passes_between_an_answer_and_who_waits_for_it(env: Environment) -> None:
    @durable.workflow
    async def answers() -> None:
        @durable.update
        async def when() -> datetime:
            return durable.now()

        await asyncio.sleep(DAY)

    env.register(answers)
    instance = await env.start(answers)
    for _ in range(3):
        assert await instance.update("when") == "2024-01-01T00:00:00Z"
    assert env.now == datetime(2024, 1, 1, tzinfo=UTC)


async def test_a_query_is_about_this_very_moment(env: Environment) -> None:
    instance = await env.start(approval, 3)
    assert await instance.query("question") == "well?"
    assert (await instance.describe()).status == "waiting"
    assert env.now == datetime(2024, 1, 1, tzinfo=UTC)


# --- mocks


async def test_mocks_by_value_function_exception_and_sequence(env: Environment) -> None:
    env.mock(greet, "value")
    assert await env.run(greeting, "ann") == "value"
    env.mock(greet, lambda name: name.upper())
    assert await env.run(greeting, "ann") == "ANN"

    async def later(name: str) -> str:
        await asyncio.sleep(0)
        return name[::-1]

    env.mock(greet, calls=later)
    assert await env.run(greeting, "ann") == "nna"
    mocked = env.mock(greet, raises=CardDeclined("no"))
    with pytest.raises(durable.WorkflowFailed) as failed:
        await env.run(greeting, "ann")
    assert isinstance(failed.value.__cause__, CardDeclined)
    assert mocked.call_count == 3  # the real retries, in virtual time
    mocked = env.mock(greet, side_effect=[TimeoutError(), CardDeclined, "third"])
    assert await env.run(greeting, "ann") == "third"
    with pytest.raises(durable.WorkflowFailed, match="once more than it has answers"):
        await env.run(greeting, "ann")
    assert await _nothing(env) is None


async def _nothing(env: Environment) -> object:
    @durable.activity
    async def mail() -> None: ...

    @durable.workflow
    async def mails() -> None:
        await mail()

    env.register(mails)
    env.mock(mail)
    return await env.run(mails)


async def test_a_mock_knows_its_calls(env: Environment) -> None:
    mocked = env.mock(greet, "x")
    mocked.assert_not_called()
    await env.run(greeting, "ann")
    mocked.assert_called_once_with("ann")
    mocked.assert_called_once_with(name="ann")
    with pytest.raises(AssertionError):
        mocked.assert_called_with("bob")
    assert mocked.calls[0].args == ("ann",)
    mocked.reset()
    assert not mocked.called


async def test_a_mock_of_a_child_is_called_once_however_often_it_is_replayed() -> None:
    async with Environment([parent], cache_size=0) as env:
        mocked = env.mock(greeting, side_effect=["mocked", "never"])
        assert await env.run(parent, "ann") == "child said mocked"
        mocked.assert_called_once_with("ann")
        env.mock(greeting, raises=CardDeclined("no"))
        with pytest.raises(durable.WorkflowFailed, match="CardDeclined"):
            await env.run(parent, "bob")


async def test_a_mock_takes_virtual_time(env: Environment) -> None:
    env.mock(greet, "late", takes=timedelta(hours=2))
    assert await env.run(greeting, "ann") == "late"
    assert env.now == datetime(2024, 1, 1, 2, tzinfo=UTC)


async def test_a_mock_that_takes_too_long_meets_the_activitys_timeout(env: Environment) -> None:
    @durable.workflow
    async def short() -> str:
        once = durable.Retry(max_attempts=1)
        return await greet.options(timeout=60, retry=once)("ann")

    env.register(short)
    env.mock(greet, "late", takes=math.inf)
    with pytest.raises(durable.WorkflowFailed) as failed:
        await env.run(short)
    assert isinstance(failed.value.__cause__, durable.ActivityTimeout)
    assert env.now == datetime(2024, 1, 1, 0, 1, tzinfo=UTC)


async def test_a_workflows_own_timeout_hits_a_mock_that_never_returns(env: Environment) -> None:
    @durable.workflow
    async def impatient() -> str:
        try:
            async with asyncio.timeout(60):
                return await greet("ann")
        except TimeoutError:
            return "too late"

    env.register(impatient)
    env.mock(greet, takes=math.inf)
    assert await env.run(impatient) == "too late"


async def test_a_mock_does_one_thing(env: Environment) -> None:
    with pytest.raises(TypeError, match="one thing"):
        env.mock(greet, returns="a", raises=ValueError())
    with pytest.raises(TypeError, match="one thing"):
        env.mock(greet, "a", returns="b")
    with pytest.raises(TypeError, match=r"@durable\.activity"):
        env.mock(len, 3)  # type: ignore[call-overload]


# --- what is waited for in vain


async def test_who_waits_for_ever_is_told_what_for(env: Environment) -> None:
    with pytest.raises(Stuck, match=r"(?s)'p-1' waits for ever.*signal 'approve'.*test_environment\.py:\d+"):
        await env.run(patient, id="p-1")


async def test_an_unknown_activity_is_named(env: Environment) -> None:
    with pytest.raises(Stuck, match=r"activity 'charge', which the environment does not have"):
        await env.run(subscription, "ann", 1)


async def test_an_unknown_workflow_is_named(env: Environment) -> None:
    instance = await env.client.create_instance("nobody-has-it")
    with pytest.raises(Stuck, match="no workflow 'nobody-has-it'"):
        await instance


async def test_the_child_that_waits_is_named() -> None:
    @durable.workflow
    async def outer() -> str:
        return await patient()

    async with Environment([outer, patient], patience=0.01) as env:
        with pytest.raises(Stuck, match=r"(?s)waits for child .*'patient'.*waits for signal 'approve'"):
            await env.run(outer)


async def test_a_stalled_instance_is_told_with_its_report(caplog: pytest.LogCaptureFixture) -> None:
    calls = 0

    @durable.workflow
    async def fickle() -> None:
        nonlocal calls
        calls += 1
        await (asyncio.sleep(1) if calls == 1 else greet("ann"))
        await approve.receive()

    async with Environment([fickle, greet], cache_size=0) as env:
        instance = await env.start(fickle)
        with pytest.raises(Stuck, match=r"(?s)is stalled.*activity_scheduled 'greet'"):
            await instance


async def test_a_paused_instance_is_told(env: Environment) -> None:
    instance = await env.start(approval, 3)
    await instance.pause("lunch")
    with pytest.raises(Stuck, match="is paused: lunch"):
        await instance


async def test_a_query_that_is_not_there_yet_is_no_reason_to_let_time_go_on(env: Environment) -> None:
    @durable.workflow
    async def slow() -> None:
        await asyncio.sleep(DAY)

        @durable.query
        def question() -> str:
            return "well?"

        await approve.receive()

    env.register(slow)
    instance = await env.start(slow)
    with pytest.raises(Stuck, match="time does not go on for a question"):
        await instance.query("question")
    await env.advance(DAY)
    assert await instance.query("question") == "well?"


async def test_what_comes_from_outside_in_time_is_waited_for() -> None:
    async with Environment([patient], patience=5) as env:
        instance = await env.start(patient)
        waiting = asyncio.ensure_future(instance.result())
        await asyncio.sleep(0.05)
        await instance.signal(approve, "late")
        assert await waiting == "late"


async def test_a_workflow_without_end_is_given_up() -> None:
    @durable.workflow
    async def endless() -> None:
        while True:
            await durable.sleep(DAY)

    async with Environment([endless], longest=timedelta(days=20)) as env:
        with pytest.raises(Stuck, match="has not ended after 20 days"):
            await env.run(endless)


# --- definitions


async def test_without_definitions_those_that_the_code_names_are_found() -> None:
    async with Environment() as env:
        assert await env.run(parent, "ann") == "child said hello ann"


async def test_history(env: Environment) -> None:
    instance = await env.start(greeting, "ann", id="g-1")
    kinds = [event.kind for event in await env.history(instance)]
    assert kinds == ["run_started", "activity_scheduled", "activity_completed", "run_completed"]
    assert await env.history("g-1") == await env.history(instance)


async def test_activities_of_objects_and_modules_are_found() -> None:
    async with Environment() as env:
        assert await env.run(shopping) == [3, "2"]


async def test_who_only_looks_is_told_that_time_stands_still(env: Environment) -> None:
    instance = await env.start(approval, 3)
    with pytest.raises(Stuck, match=r"time goes on for who awaits .* env\.advance"):
        while (await instance.describe()).state == "running":  # noqa: ASYNC110 - just that is a mistake here
            await asyncio.sleep(0)


async def test_every_queue_is_served(env: Environment) -> None:
    @durable.workflow(queue="eu")
    async def routed(name: str) -> list[str]:
        here = await greet.options(queue="us")(name)
        handle = durable.start(greeting, name, queue="asia")
        return [here, await handle]

    env.register(routed)
    assert await env.run(routed, "ann") == ["hello ann", "hello ann"]


async def test_context_and_hooks_are_those_of_connect() -> None:
    seen: list[str] = []

    class Look(durable.Hooks):
        def on_start(self, workflow: str, instance_id: str, headers: MutableMapping[str, str]) -> None:
            seen.append(workflow)

    tenant: ContextVar[str] = ContextVar("tenant")

    @durable.activity
    async def whose() -> str:
        return tenant.get()

    @durable.workflow
    async def travels() -> list[str]:
        return [tenant.get(), await whose()]

    async with Environment([travels, whose], context=[tenant], hooks=[Look()]) as env:
        tenant.set("shop")
        assert await env.run(travels) == ["shop", "shop"]
    replay_thoroughly(env.recorded)
    assert seen == ["travels"]


async def test_outside_of_its_block_it_says_so() -> None:
    env = Environment([greeting])
    with pytest.raises(RuntimeError, match="is not open"):
        env.client.get_instance("x")
