from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest

import durable
from durable import Retry
from durable.client.client import Client
from tests.worker import crunch
from tests.worker.stores import Store, connected, until

QUICK = Retry(initial=0.001, jitter=0.0)


class CardDeclined(Exception):
    pass


class Context:
    """What a test's activities write down, and wait for."""

    def __init__(self) -> None:
        self.seen: list[Any] = []
        self.go = asyncio.Event()
        self.begun = asyncio.Event()


@pytest.fixture
async def ends() -> AsyncIterator[tuple[Client, Store]]:
    async with connected() as both:
        yield both


async def outcome(client: Client, workflow: Any, activities: list[Any], *args: Any, **worker: Any) -> Any:
    async with durable.Worker(client, [workflow, *activities], **worker):
        instance = await client.create_instance(workflow, *args)
        return await instance.result(timeout=10)


async def cause(
    client: Client, workflow: Any, activities: list[Any], *args: Any, **worker: Any
) -> BaseException:
    with pytest.raises(durable.WorkflowFailed) as caught:
        await outcome(client, workflow, activities, *args, **worker)
    assert caught.value.__cause__ is not None
    return caught.value.__cause__


# --- kinds of functions ---------------------------------------------------------------------------------------------


@durable.activity
async def double(number: int) -> int:
    return number * 2


@durable.activity
def double_in_a_thread(number: int) -> tuple[int, bool]:
    return number * 2, threading.current_thread() is threading.main_thread()


class Shop:
    def __init__(self, name: str) -> None:
        self.name = name

    @durable.activity
    async def greet(self, who: str) -> str:
        return f"{self.name} greets {who}"


the_shop = Shop("corner shop")


@pytest.mark.parametrize("cache_size", [0, 1000])
async def test_async_functions_threads_and_bound_methods(ends: tuple[Client, Store], cache_size: int) -> None:
    @durable.workflow
    async def all_kinds() -> list[Any]:
        threaded = await double_in_a_thread(2)
        return [await double(1), *threaded, await the_shop.greet("you")]

    found = await outcome(
        ends[0], all_kinds, [double, double_in_a_thread, the_shop.greet], cache_size=cache_size
    )
    assert found == [2, 4, False, "corner shop greets you"]


async def test_outside_of_a_workflow_an_activity_is_its_function() -> None:
    assert await double(4) == 8
    assert double_in_a_thread(4) == (8, True)
    assert await the_shop.greet("me") == "corner shop greets me"


async def test_an_activity_knows_its_attempt(ends: tuple[Client, Store]) -> None:
    seen: list[durable.ActivityInfo] = []

    @durable.activity(timeout=60)
    async def looks() -> None:
        seen.append(durable.activity_info())

    @durable.workflow
    async def one() -> None:
        await looks()

    async with durable.Worker(ends[0], [one, looks]):
        await (await ends[0].create_instance(one, id="i")).result(timeout=5)
    info = seen[0]
    assert (info.attempt, info.instance_id, info.name, info.workflow, info.queue) == (
        1,
        "i",
        "looks",
        "one",
        "default",
    )
    assert info.client is ends[0] and info.last_heartbeat is None
    assert info.deadline is not None and 50 < (info.deadline - datetime.now(UTC)).total_seconds() <= 60
    with pytest.raises(RuntimeError, match="inside an activity"):
        durable.activity_info()


async def test_arguments_that_the_activity_cannot_take_fail_it_at_once(ends: tuple[Client, Store]) -> None:
    @durable.activity(name="strict", retry=QUICK)
    async def sender(number: str) -> None: ...

    @durable.activity(name="strict", retry=QUICK)
    async def receiver(number: int) -> None:
        raise AssertionError("it does not run")

    @durable.workflow
    async def one() -> None:
        await sender("text")

    assert isinstance(await cause(ends[0], one, [receiver]), durable.PayloadError)


async def test_a_result_that_cannot_be_encoded_fails_the_activity_at_once(ends: tuple[Client, Store]) -> None:
    calls: list[int] = []

    @durable.activity(retry=QUICK)
    async def wrong() -> int:
        calls.append(1)
        return "text"  # type: ignore[return-value]

    @durable.workflow
    async def one() -> None:
        await wrong()

    assert isinstance(await cause(ends[0], one, [wrong]), durable.PayloadError)
    assert calls == [1]


# --- retries --------------------------------------------------------------------------------------------------------


def failing(times: int, error: Any, **options: Any) -> tuple[Any, list[int]]:
    attempts: list[int] = []

    @durable.activity(**{"retry": QUICK, **options})
    async def flaky() -> int:
        attempts.append(durable.activity_info().attempt)
        if len(attempts) <= times:
            raise error
        return len(attempts)

    return flaky, attempts


def calls(activity: Any) -> Any:
    @durable.workflow
    async def one() -> Any:
        return await activity()

    return one


async def test_an_activity_is_tried_three_times(ends: tuple[Client, Store]) -> None:
    flaky, attempts = failing(2, CardDeclined("no"))
    assert await outcome(ends[0], calls(flaky), [flaky]) == 3
    assert attempts == [1, 2, 3]


async def test_and_no_more(ends: tuple[Client, Store]) -> None:
    flaky, attempts = failing(5, CardDeclined("no money"))
    error = await cause(ends[0], calls(flaky), [flaky])
    assert isinstance(error, CardDeclined) and str(error) == "no money"
    assert attempts == [1, 2, 3]


@pytest.mark.parametrize(
    ("error", "options"),
    [
        (durable.NonRetryable("never"), {}),
        (CardDeclined("no"), {"retry": Retry(initial=0.001, non_retryable=(CardDeclined,))}),
        (CardDeclined("no"), {"retry": Retry(max_attempts=1)}),
        (CardDeclined("no"), {"retry": Retry(initial=5, timeout=1)}),
    ],
)
async def test_what_is_not_tried_again(ends: tuple[Client, Store], error: Exception, options: Any) -> None:
    flaky, attempts = failing(5, error, **options)
    found = await cause(ends[0], calls(flaky), [flaky])
    assert type(found) is type(error) and str(found) == str(error)
    assert attempts == [1]


async def test_retry_after_chooses_the_delay(ends: tuple[Client, Store]) -> None:
    flaky, attempts = failing(1, durable.RetryAfter(0.001), retry=Retry(initial=60))
    assert await outcome(ends[0], calls(flaky), [flaky]) == 2
    assert attempts == [1, 2]


async def test_a_retry_waits_by_the_stores_clock(ends: tuple[Client, Store]) -> None:
    client, store = ends
    flaky, attempts = failing(1, CardDeclined("no"), retry=Retry(initial=3600, max_interval=3600, jitter=0))
    workflow = calls(flaky)
    async with durable.Worker(client, [workflow, flaky]):
        instance = await client.create_instance(workflow)
        await until(lambda: attempts == [1])
        await until(lambda: "finish_activities" in store.calls)
        store.skip(3599)
        assert await client.store.real.claim_activity_tasks(_nobody(["flaky"]), 1) is not None  # type: ignore[attr-defined]
        assert attempts == [1]
        store.skip(2)
        assert await instance.result(timeout=5) == 2


def _nobody(activities: list[str]) -> Any:
    from durable.backends.records import Claimant

    return Claimant(worker_id="x", token="x", lease_us=1, queues=("elsewhere",), activities=tuple(activities))


async def test_a_cancelled_error_that_nobody_asked_for_is_an_ordinary_failure(
    ends: tuple[Client, Store],
) -> None:
    flaky, attempts = failing(2, asyncio.CancelledError("odd"))
    assert await outcome(ends[0], calls(flaky), [flaky]) == 3
    assert attempts == [1, 2, 3]


@pytest.mark.parametrize("error", [KeyboardInterrupt("k"), SystemExit("s")])
async def test_what_would_end_the_process_comes_out_as_a_remote_error(
    ends: tuple[Client, Store], error: BaseException
) -> None:
    flaky, _ = failing(1, error, retry=Retry(max_attempts=1))
    found = await cause(ends[0], calls(flaky), [flaky])
    assert isinstance(found, durable.RemoteError) and found.type == type(error).__name__


async def test_stop_iteration_in_a_thread_does_not_hang(ends: tuple[Client, Store]) -> None:
    @durable.activity(retry=Retry(max_attempts=1))
    def stops() -> None:
        next(iter(()))

    assert isinstance(await cause(ends[0], calls(stops), [stops]), RuntimeError)


# --- time limits ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("option", ["timeout", "heartbeat_timeout"])
async def test_limits_of_one_attempt(ends: tuple[Client, Store], option: str) -> None:
    seen: list[Any] = []
    options: Any = {option: 0.01, "retry": QUICK}

    @durable.activity(**options)
    async def slow() -> str:
        seen.append(durable.activity_info().attempt)
        try:
            await asyncio.Event().wait()
        finally:
            seen.append("stopped")
        return "never"

    error = await cause(ends[0], calls(slow), [slow])
    assert isinstance(error, durable.ActivityTimeout) and isinstance(error, TimeoutError)
    assert error.kind == {"timeout": "timeout", "heartbeat_timeout": "heartbeat"}[option]
    assert seen == [1, "stopped", 2, "stopped", 3, "stopped"]


async def test_a_threads_time_limit_does_not_wait_for_the_thread(ends: tuple[Client, Store]) -> None:
    release = threading.Event()

    @durable.activity(timeout=0.01, retry=Retry(max_attempts=1))
    def slow() -> None:
        release.wait(10)

    try:
        assert isinstance(
            await cause(ends[0], calls(slow), [slow], shutdown_timeout=0), durable.ActivityTimeout
        )
    finally:
        release.set()


async def test_heartbeats_hold_off_the_limit_of_silence(ends: tuple[Client, Store]) -> None:
    @durable.activity(heartbeat_timeout=0.1)
    async def beats() -> str:
        for _ in range(20):
            await asyncio.sleep(0.01)
            durable.heartbeat()
        return "done"

    assert await outcome(ends[0], calls(beats), [beats]) == "done"


async def test_nobody_claims_it_in_time(ends: tuple[Client, Store]) -> None:
    client, store = ends
    unknown = durable.activity(queue_timeout=60, queue="elsewhere")(double.definition.fn)

    @durable.workflow
    async def one() -> str:
        try:
            await unknown(1)
        except durable.ActivityTimeout as error:
            return error.kind
        return "never"

    async with durable.Worker(client, [one]):
        instance = await client.create_instance(one)
        await until(lambda: "commit" in store.calls)
        store.skip(59)
        await asyncio.sleep(0)
        assert (await instance.describe()).state == "running"
        store.skip(2)
        assert await instance.result(timeout=5) == "queue"


async def test_queue_timeout_does_not_count_once_it_runs(ends: tuple[Client, Store]) -> None:
    client, store = ends
    context = Context()

    @durable.activity(queue_timeout=60)
    async def slow() -> str:
        context.begun.set()
        await context.go.wait()
        return "done"

    workflow = calls(slow)
    async with durable.Worker(client, [workflow, slow], lease=3600):
        instance = await client.create_instance(workflow)
        await context.begun.wait()
        store.skip(120)
        context.go.set()
        assert await instance.result(timeout=5) == "done"


# --- heartbeats, leases, cancellation -------------------------------------------------------------------------------


async def test_details_are_seen_by_the_next_attempt(ends: tuple[Client, Store]) -> None:
    seen: list[Any] = []

    @durable.activity(retry=QUICK)
    async def resumes() -> Any:
        last = durable.activity_info().last_heartbeat
        seen.append(last)
        if last is None or last["page"] < 2:
            durable.heartbeat({"page": 1 if last is None else 2})
            raise CardDeclined("again")
        return last

    assert await outcome(ends[0], calls(resumes), [resumes]) == {"page": 2}
    assert seen == [None, {"page": 1}, {"page": 2}]


async def test_details_are_seen_after_a_worker_was_lost(ends: tuple[Client, Store]) -> None:
    client, store = ends
    context = Context()

    @durable.activity
    async def resumes() -> Any:
        context.seen.append(durable.activity_info().last_heartbeat)
        if len(context.seen) == 1:
            durable.heartbeat({"page": 7})
            await asyncio.Event().wait()
        return [durable.activity_info().last_heartbeat, durable.activity_info().attempt]

    workflow = calls(resumes)
    lost = durable.Worker(client, [workflow, resumes], lease=15, shutdown_timeout=0)
    await lost.__aenter__()
    instance = await client.create_instance(workflow)
    await until(lambda: "extend" in store.calls, "a heartbeat")
    for task in asyncio.all_tasks():  # the worker dies
        if task is not asyncio.current_task() and ("leases" in task.get_name() or task in lost._claimers):
            task.cancel()
    async with durable.Worker(client, [workflow, resumes]):
        store.skip(20)
        assert await instance.result(timeout=5) == [{"page": 7}, 1]
    await lost.__aexit__(None, None, None)


async def test_other_leases_are_renewed_while_one_activity_beats(ends: tuple[Client, Store]) -> None:
    client, store = ends
    context = Context()

    @durable.activity
    async def chatty() -> None:
        while not context.go.is_set():
            durable.heartbeat()
            await asyncio.sleep(0.005)

    @durable.activity
    async def silent() -> int:
        context.seen.append(durable.activity_info().attempt)
        await context.go.wait()
        return len(context.seen)

    @durable.workflow
    async def both() -> int:
        beating = asyncio.create_task(chatty())
        found = await silent()
        await beating
        return found

    async def renewed(method: Any, leases: Any) -> Any:
        renewals.update(
            lease.ref.number for lease in leases if hasattr(lease, "ref") and lease.details is None
        )
        return await method(leases)

    renewals: set[int] = set()
    store.hooks["extend"] = renewed
    async with durable.Worker(client, [both, chatty, silent], lease=0.3, shutdown_timeout=0):
        instance = await client.create_instance(both)
        await until(lambda: 1 in renewals, "the silent one's renewal")
        context.go.set()
        assert await instance.result(timeout=5) == 1


async def test_cancelling_reaches_an_async_activity(ends: tuple[Client, Store]) -> None:
    client, _ = ends
    context = Context()

    @durable.activity
    async def slow() -> None:
        context.begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            context.seen.append("cancelled")
            raise

    workflow = calls(slow)
    async with durable.Worker(client, [workflow, slow]):
        instance = await client.create_instance(workflow)
        await context.begun.wait()
        await instance.cancel("enough")
        with pytest.raises(durable.WorkflowCancelled, match="enough"):
            await instance.result(timeout=5)
        await until(lambda: context.seen == ["cancelled"])


async def test_cancelling_reaches_a_thread_at_its_next_heartbeat(ends: tuple[Client, Store]) -> None:
    client, _ = ends
    begun, seen = threading.Event(), []

    @durable.activity
    def slow() -> None:
        begun.set()
        try:
            while True:
                durable.heartbeat()
                time.sleep(0.002)
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    workflow = calls(slow)
    async with durable.Worker(client, [workflow, slow]):
        instance = await client.create_instance(workflow)
        await until(begun.is_set)
        await instance.cancel()
        with pytest.raises(durable.WorkflowCancelled):
            await instance.result(timeout=5)
        await until(lambda: seen == ["cancelled"])


async def test_the_end_of_a_workflow_cancels_what_is_in_flight_also_elsewhere(
    ends: tuple[Client, Store],
) -> None:
    client, _store = ends
    context = Context()

    @durable.activity
    async def slow() -> None:
        context.begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            context.seen.append("stopped")

    @durable.workflow
    async def leaves() -> str:
        asyncio.get_running_loop().keep = asyncio.create_task(slow())  # type: ignore[attr-defined]
        await durable.Signal("end").receive()
        return "done"

    async with durable.Worker(client, [leaves]), durable.Worker(client, [slow], lease=0.03):
        instance = await client.create_instance(leaves)
        await context.begun.wait()
        await instance.signal("end")
        assert await instance.result(timeout=5) == "done"
        await until(lambda: context.seen == ["stopped"])


async def test_at_most_once_is_not_started_again_when_its_worker_is_lost(ends: tuple[Client, Store]) -> None:
    client, store = ends
    context = Context()

    @durable.activity(at_most_once=True)
    async def pays() -> None:
        context.seen.append(1)
        context.begun.set()
        await asyncio.Event().wait()

    workflow = calls(pays)
    lost = durable.Worker(client, [workflow, pays], shutdown_timeout=0)
    await lost.__aenter__()
    instance = await client.create_instance(workflow)
    await context.begun.wait()

    async def nothing(method: Any, leases: Any) -> Any:
        await asyncio.Event().wait()

    store.hooks["extend"] = nothing  # its worker is gone
    for claimer in lost._claimers:
        claimer.cancel()
    async with durable.Worker(client, [workflow, pays]):
        store.skip(20)
        with pytest.raises(durable.WorkflowFailed) as caught:
            await instance.result(timeout=5)
    assert isinstance(caught.value.__cause__, durable.WorkerLost)
    assert context.seen == [1]
    await lost.__aexit__(None, None, None)


async def test_an_attempt_that_outlives_its_lease_here_goes_on_and_counts(ends: tuple[Client, Store]) -> None:
    client, store = ends
    context = Context()

    @durable.activity
    async def slow() -> str:
        context.seen.append(1)
        context.begun.set()
        await context.go.wait()
        return "done"

    workflow = calls(slow)
    async with durable.Worker(client, [workflow, slow]):
        instance = await client.create_instance(workflow)
        await context.begun.wait()
        before = store.calls.count("claim_activity_tasks")
        store.skip(
            20
        )  # the process was stopped for a while: its lease ran out, and it claims its own attempt
        await until(lambda: store.calls.count("claim_activity_tasks") > before + 1)
        context.go.set()
        assert await instance.result(timeout=5) == "done"
    assert context.seen == [1]


# --- finished from elsewhere ----------------------------------------------------------------------------------------


def parking(context: Context, **options: Any) -> Any:
    @durable.activity(**options)
    async def parks() -> str:
        context.seen.append(await durable.complete_later())
        context.begun.set()
        return "ignored"

    return parks


async def test_complete_later(ends: tuple[Client, Store]) -> None:
    client, _ = ends
    context = Context()
    parks = parking(context)
    workflow = calls(parks)
    async with durable.Worker(client, [workflow, parks]):
        instance = await client.create_instance(workflow)
        await context.begun.wait()
        assert isinstance(context.seen[0], str)
        await client.complete_activity(context.seen[0], "from elsewhere")
        assert await instance.result(timeout=5) == "from elsewhere"
        with pytest.raises(durable.InstanceFinished, match="another outcome"):
            await client.complete_activity(context.seen[0], "something else")
        with pytest.raises(ValueError, match="no token"):
            await client.complete_activity("nonsense", "x")


async def test_fail_later(ends: tuple[Client, Store]) -> None:
    client, _ = ends
    context = Context()
    parks = parking(context)
    workflow = calls(parks)
    async with durable.Worker(client, [workflow, parks]):
        instance = await client.create_instance(workflow)
        await context.begun.wait()
        await client.fail_activity(context.seen[0], CardDeclined("no"))
        with pytest.raises(durable.WorkflowFailed) as caught:
            await instance.result(timeout=5)
    assert isinstance(caught.value.__cause__, CardDeclined)


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("ended", [False, True])
async def test_finishing_again_is_harmless_also_when_the_first_reply_was_lost(
    ends: tuple[Client, Store], fails: bool, ended: bool
) -> None:
    client, store = ends
    context = Context()
    parks = parking(context)

    @durable.workflow
    async def goes_on() -> str:
        try:
            answer = await parks()
        except CardDeclined as error:
            answer = str(error)
        if not ended:
            await durable.wait_condition(lambda: False)
        return str(answer)

    async def finish() -> None:
        if fails:
            await client.fail_activity(context.seen[0], CardDeclined("no"))
        else:
            await client.complete_activity(context.seen[0], "no")

    async def lost_once(method: Any, outcomes: Any) -> Any:
        await method(outcomes)
        del store.hooks["finish_activities"]
        raise durable.BackendError("the connection is gone")

    async with durable.Worker(client, [goes_on, parks]):
        instance = await client.create_instance(goes_on)
        await context.begun.wait()
        store.hooks["finish_activities"] = lost_once
        await finish()
        await finish()
        if ended:
            assert await instance.result(timeout=5) == "no"
            await finish()
        with pytest.raises(durable.InstanceFinished, match="another outcome"):
            await client.complete_activity(context.seen[0], "yes")


@pytest.mark.parametrize("threaded", [False, True])
async def test_the_token_works_as_soon_as_it_is_given(ends: tuple[Client, Store], threaded: bool) -> None:
    client, _ = ends
    loop = asyncio.get_running_loop()

    @durable.activity
    async def parks() -> str:
        token = await durable.complete_later()
        await client.complete_activity(token, "at once")
        return "ignored"

    @durable.activity(name="parks")
    def parks_in_a_thread() -> str:
        token = durable.complete_later()
        asyncio.run_coroutine_threadsafe(client.complete_activity(token, "at once"), loop).result(5)
        return "ignored"

    activity = parks_in_a_thread if threaded else parks
    assert await outcome(client, calls(activity), [activity]) == "at once"


async def test_a_parked_activity_has_its_time_limit_too(ends: tuple[Client, Store]) -> None:
    client, store = ends
    context = Context()
    parks = parking(context, timeout=60, retry=Retry(max_attempts=1))
    workflow = calls(parks)
    async with durable.Worker(client, [workflow, parks]):
        instance = await client.create_instance(workflow)
        await context.begun.wait()
        await until(lambda: "finish_activities" in store.calls)
        store.skip(61)
        with pytest.raises(durable.WorkflowFailed) as caught:
            await instance.result(timeout=5)
    error = caught.value.__cause__
    assert isinstance(error, durable.ActivityTimeout) and error.kind == "timeout"


async def test_a_parked_activity_that_nobody_finishes_is_tried_again(
    ends: tuple[Client, Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    client, store = ends
    monkeypatch.setattr("durable.client.later.WAIT_SECONDS", 0.0)
    context = Context()
    parks = parking(context, timeout=60, retry=Retry(max_attempts=2, initial=0.001))
    workflow = calls(parks)
    async with durable.Worker(client, [workflow, parks]):
        instance = await client.create_instance(workflow)
        for attempt in (1, 2):
            await until(lambda attempt=attempt: len(context.seen) == attempt)  # type: ignore[misc]
            if attempt == 1:
                store.skip(61)
        with pytest.raises(durable.InstanceFinished):
            await client.complete_activity(context.seen[0], "too late")
        store.skip(61)
        with pytest.raises(durable.WorkflowFailed) as caught:
            await instance.result(timeout=5)
    error = caught.value.__cause__
    assert isinstance(error, durable.ActivityTimeout) and error.kind == "timeout"
    assert len(context.seen) == 2


async def test_waiting_for_a_process_is_not_part_of_the_time_limit(
    ends: tuple[Client, Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    waited = asyncio.Event()

    async def busy(self: Any, attempt: Any, definition: Any) -> str:
        asyncio.get_running_loop().call_later(0.05, waited.set)
        await waited.wait()
        before = attempt.info.deadline
        attempt.begin()
        assert before is None and attempt.info.deadline is not None
        if attempt.item.attempt == 1:
            await asyncio.Event().wait()
        return "its turn came"

    monkeypatch.setattr("durable.worker.processes.Processes.run", busy)
    crunches = crunch.size.options(timeout=0.02, retry=QUICK)

    @durable.workflow
    async def one() -> str:
        return await crunches("x")

    assert await outcome(ends[0], one, [crunch.size]) == "its turn came"


async def test_a_token_that_nobody_waits_for_says_why(
    ends: tuple[Client, Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    client, _ = ends
    monkeypatch.setattr("durable.client.later.WAIT_SECONDS", 0.0)
    context = Context()
    parks = parking(context)
    enough: durable.Signal[None] = durable.Signal("enough", None)

    @durable.workflow
    async def loses_patience() -> None:
        answer = asyncio.ensure_future(parks())
        await enough.receive()
        answer.cancel()
        await durable.wait_condition(lambda: False)

    async with durable.Worker(client, [loses_patience, parks]):
        instance = await client.create_instance(loses_patience)
        await context.begun.wait()
        await instance.signal(enough, None)
        await until(lambda: _cancelled(instance))
        token = context.seen[0]
        with pytest.raises(durable.InstanceFinished, match="was cancelled"):
            await client.complete_activity(token, "x")
        run_id, _, rest = token.split(".", 2)
        with pytest.raises(durable.InstanceFinished, match="does not wait for this token"):
            await client.complete_activity(f"{run_id}.77.{rest}", "x")
        await instance.terminate()
        with pytest.raises(durable.InstanceFinished, match="its run has ended"):
            await client.complete_activity(f"{run_id}.77.{rest}", "x")


async def _cancelled(instance: durable.Instance[Any]) -> bool:
    return "activity_cancelled" in [event.kind for event in await instance.history()]


async def test_an_activity_that_raises_after_it_was_parked_fails(ends: tuple[Client, Store]) -> None:
    @durable.activity(retry=Retry(max_attempts=1))
    async def parks() -> str:
        await durable.complete_later()
        raise CardDeclined("could not hand the token over")

    assert isinstance(await cause(ends[0], calls(parks), [parks]), CardDeclined)
