from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

import durable
from durable.client.client import Client
from tests.worker.stores import Store, connected, until


@dataclass
class Order:
    id: str
    cents: int


go: durable.Signal[int] = durable.Signal("go", int)


@durable.workflow
async def takes(order: Order, *, gift: bool = False) -> Order:
    await go.receive()
    return Order(order.id, order.cents + gift)


@durable.workflow
async def waits() -> int:
    durable.set_var("phase", "waiting")
    durable.set_status("new")
    return await go.receive()


@durable.workflow
async def fails() -> None:
    raise LookupError("no such order")


@pytest.fixture
async def ends() -> AsyncIterator[tuple[Client, Store]]:
    async with connected(max_payload=10_000) as both:
        yield both


# --- at the door ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "kwargs", "error"),
    [
        ((), {}, TypeError),
        ((Order("o", 1), 2), {}, TypeError),
        ((Order("o", 1),), {"colour": "red"}, TypeError),
        (("no order",), {}, durable.PayloadError),
        ((Order("o", "x"),), {}, durable.PayloadError),  # type: ignore[arg-type]
    ],
)
async def test_arguments_that_do_not_fit_are_refused_before_anything_is_written(
    ends: tuple[Client, Store], args: Any, kwargs: Any, error: type[Exception]
) -> None:
    client, store = ends
    with pytest.raises(error):
        await client.create_instance(takes, *args, kwargs=kwargs, id="i")
    assert "create" not in store.calls


async def test_a_payload_that_is_too_large_names_the_argument_and_its_size(
    ends: tuple[Client, Store],
) -> None:
    client, store = ends
    with pytest.raises(durable.PayloadTooLarge, match=r"takes.*(20|2\d) ?[\d_,.]*") as caught:
        await client.create_instance(takes, Order("x" * 20_000, 1))
    assert "20" in str(caught.value) and "10" in str(caught.value)
    assert "create" not in store.calls


@pytest.mark.parametrize("id", ["x" * 512, "é" * 256, "a/b c'\"%_", "\U0001f600"])
async def test_ids_that_are_fine(ends: tuple[Client, Store], id: str) -> None:
    instance = await ends[0].create_instance(waits, id=id)
    assert (await ends[0].get_instance(id).describe()).id == instance.id == id


@pytest.mark.parametrize("id", ["", "x" * 513, "é" * 257, "nul\0", "lone \ud800"])
async def test_ids_that_no_store_could_keep(ends: tuple[Client, Store], id: str) -> None:
    with pytest.raises(durable.PayloadError, match="id"):
        await ends[0].create_instance(waits, id=id)
    with pytest.raises(durable.PayloadError, match="id"):
        ends[0].get_instance(id)
    with pytest.raises(TypeError):
        ends[0].get_instance(7)  # type: ignore[call-overload]


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("nonsense://x", "nonsense"),
        ("no-url", "no store's URL"),
        ("memory://?colour=red", "colour"),
        ("memory://?poll=fast", "poll"),
    ],
)
async def test_urls(url: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        async with durable.connect(url):
            pass


async def test_odd_arguments_of_create(ends: tuple[Client, Store]) -> None:
    client, _ = ends
    with pytest.raises(ValueError, match="if_exists"):
        await client.create_instance(waits, if_exists="maybe")  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="workflow"):
        await client.create_instance(lambda: None)  # type: ignore[call-overload]
    with pytest.raises(ValueError, match="timeout"):
        await client.create_instance(waits, timeout=-1)
    with pytest.raises(TypeError, match="tags"):
        await client.create_instance(waits, tags={"a": 1})  # type: ignore[dict-item]


async def _enter(context: Any) -> None:
    async with context:
        pass


DOORS: dict[str, Callable[[Client, Any], Any]] = {
    "create": lambda client, span: client.create_instance(waits, timeout=span),
    "signal_with_start": lambda client, span: client.signal_with_start(
        waits, id="a", signal="go", value=1, timeout=span
    ),
    "result": lambda client, span: client.get_instance("a").result(timeout=span),
    "query": lambda client, span: client.get_instance("a").query("q", timeout=span),
    "update": lambda client, span: client.get_instance("a").update("u", timeout=span),
    "purge": lambda client, span: client.purge(older_than=span),
    "lease": lambda client, span: _enter(durable.Worker(client, [waits], lease=span)),
    "shutdown": lambda client, span: _enter(durable.Worker(client, [waits], shutdown_timeout=span)),
    "workflow": lambda client, span: client.create_instance(waits.options(timeout=span)),
    "activity": lambda _, span: durable.activity(timeout=span),
    "queue_timeout": lambda _, span: durable.activity(queue_timeout=span),
    "heartbeat_timeout": lambda _, span: durable.activity(heartbeat_timeout=span),
    "retry": lambda _, span: durable.Retry(timeout=span),
    "retry_initial": lambda _, span: durable.Retry(initial=span),
}


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize(
    "span", [-1, -0.001, math.nan, math.inf, 1e300, timedelta.max, timedelta.min, "5"], ids=str
)
async def test_a_time_that_makes_no_sense_is_refused_at_the_door(
    ends: tuple[Client, Store], door: str, span: Any
) -> None:
    client, store = ends
    with pytest.raises(ValueError, match=r"must (not )?be"):
        made = DOORS[door](client, span)
        if asyncio.iscoroutine(made):
            await made
        elif callable(made):  # a decorator

            async def plain() -> None: ...

            made(plain)
    assert store.calls == ["migrate"]


async def test_a_long_time_is_taken_everywhere(ends: tuple[Client, Store]) -> None:
    client, _ = ends
    instance = await client.create_instance(waits, id="long", timeout=timedelta(days=365_000))
    deadline = (await instance.describe()).deadline
    assert deadline is not None and deadline.year > 2900


async def test_arguments_of_a_handler_may_have_the_names_of_ours(ends: tuple[Client, Store]) -> None:
    client, _ = ends

    @durable.workflow
    async def settings() -> None:
        @durable.query
        def shown(timeout: int, kwargs: int) -> list[int]:
            return [timeout, kwargs]

        @durable.update
        async def changed(key: str, timeout: int = 0, more: int = 0) -> str:
            return f"{key} {timeout} {more}"

        await durable.wait_condition(lambda: False)

    async with durable.Worker(client, [settings]):
        instance = await client.create_instance(settings)
        assert await instance.query("shown", kwargs={"timeout": 1, "kwargs": 2}, timeout=5) == [1, 2]
        answer = instance.update("changed", more=3, kwargs={"key": "a", "timeout": 2}, key="k", timeout=5)
        assert await answer == "a 2 3"
        with pytest.raises(TypeError, match=r"update 'changed' got 'more' twice"):
            await instance.update("changed", "a", more=3, kwargs={"more": 4})


async def test_what_is_no_workflow() -> None:
    with pytest.raises(TypeError, match="plain def"):
        durable.workflow(lambda: None)  # type: ignore[arg-type, return-value]

    async def generates() -> AsyncIterator[int]:
        yield 1

    with pytest.raises(TypeError, match="async generator"):
        durable.workflow(generates)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="already"):
        durable.workflow(waits)


# --- who has the id -------------------------------------------------------------------------------------------------


async def test_if_exists(ends: tuple[Client, Store]) -> None:
    client, _ = ends
    first = await client.create_instance(waits, id="i")
    with pytest.raises(durable.InstanceAlreadyExists, match="'i'"):
        await client.create_instance(waits, id="i")
    assert (await client.create_instance(waits, id="i", if_exists="use")).run_id == first.run_id
    with pytest.raises(durable.InstanceAlreadyExists):
        await client.create_instance(fails, id="i", if_exists="use")
    second = await client.create_instance(waits, id="i", if_exists="replace")
    assert second.run_id != first.run_id
    with pytest.raises(durable.WorkflowTerminated, match="replaced"):
        await client.get_instance("i", first.run_id).result(timeout=5)
    await second.terminate()
    third = await client.create_instance(waits, id="i")
    assert (await third.describe()).state == "running"


@durable.workflow
async def minds(child: str) -> str:
    try:
        return str(await durable.start(waits, id=child))
    except durable.WorkflowTerminated as end:
        return str(end)


async def children_of(client: Client) -> list[str]:
    return [view.id for view in await client.list_instances() if view.id == "c"]


async def test_the_parent_of_a_replaced_child_hears_of_it(ends: tuple[Client, Store]) -> None:
    client, _ = ends
    async with durable.Worker(client, [minds]):
        parent = await client.create_instance(minds, "c")
        await until(lambda: children_of(client))
        await client.create_instance(waits, id="c", if_exists="replace")
        assert "replaced by a new run" in await parent.result(timeout=5)


async def test_start_at(ends: tuple[Client, Store]) -> None:
    client, store = ends
    when = datetime.now(UTC) + timedelta(hours=1)
    async with durable.Worker(client, [fails]):
        instance = await client.create_instance(fails, start_at=when)
        await until(lambda: store.calls.count("claim_workflow_tasks") > 1)
        described = await instance.describe()
        assert (described.state, described.start_at) == ("running", when)
        store.skip(3601)
        with pytest.raises(durable.WorkflowFailed):
            await instance.result(timeout=5)


async def test_the_timeout_of_a_workflow_needs_no_code(ends: tuple[Client, Store]) -> None:
    client, store = ends

    @durable.activity
    async def other() -> None: ...

    instance = await client.create_instance(waits, timeout=60)
    paused = await client.create_instance(waits, timeout=60)
    await paused.pause()
    async with durable.Worker(client, [other]):
        store.skip(59)
        assert (await instance.describe()).state == "running"
        store.skip(2)
        for one in (instance, paused):
            with pytest.raises(durable.WorkflowFailed) as caught:
                await one.result(timeout=5)
            assert isinstance(caught.value.__cause__, TimeoutError)
    assert [event.kind for event in await instance.history()] == ["run_started", "run_timed_out"]


async def test_signal_with_start(ends: tuple[Client, Store]) -> None:
    client, _ = ends
    first = await client.signal_with_start(waits, id="i", signal=go, value=1)
    second = await client.signal_with_start(waits, id="i", signal=go, value=2)
    assert first.run_id == second.run_id
    with pytest.raises(durable.PayloadError):
        await client.signal_with_start(waits, id="j", signal=go, value="no number")
    with pytest.raises(durable.InstanceNotFound):
        await client.get_instance("j").describe()
    async with durable.Worker(client, [waits]):
        assert await first.result(timeout=5) == 1


# --- results and looks ----------------------------------------------------------------------------------------------


async def test_results_are_typed(ends: tuple[Client, Store]) -> None:
    client, _ = ends
    async with durable.Worker(client, [takes]):
        instance = await client.create_instance(takes, Order("o", 1), kwargs={"gift": True}, id="o")
        with pytest.raises(TimeoutError, match="goes on"):
            await instance.result(timeout=0.01)
        await instance.signal(go, 1)
        assert await instance == Order("o", 2)
        assert await client.get_instance("o").result(timeout=5) == {"id": "o", "cents": 2}
        assert await client.get_instance("o", workflow=takes) == Order("o", 2)


async def test_failures(ends: tuple[Client, Store]) -> None:
    client, _ = ends
    async with durable.Worker(client, [fails]):
        instance = await client.create_instance(fails)
        with pytest.raises(durable.WorkflowFailed, match="no such order") as caught:
            await instance.result(timeout=5)
    assert isinstance(caught.value.__cause__, LookupError)
    with pytest.raises(durable.InstanceNotFound, match="nobody"):
        await client.get_instance("nobody").result(timeout=5)


async def test_describe_vars_history_and_lists(ends: tuple[Client, Store]) -> None:
    client, _store = ends
    async with durable.Worker(client, [waits, fails]):
        for number in range(5):
            await client.create_instance(waits, id=f"i-{number}", tags={"n": str(number % 2), "all": "yes"})
        instance = client.get_instance("i-0")

        async def told() -> bool:
            return await instance.vars() == {"phase": "waiting"}

        await until(told)
        described = await instance.describe()
        assert (described.status, described.workflow, described.tags) == (
            "new",
            "waits",
            {"n": "0", "all": "yes"},
        )
        page = await client.list_instances(workflow=waits, tags={"n": "0"}, order="oldest", limit=2)
        rest = await client.list_instances(
            workflow=waits, tags={"n": "0"}, order="oldest", limit=2, cursor=page.cursor
        )
        assert [one.id for one in (*page.items, *rest.items)] == ["i-0", "i-2", "i-4"] and rest.cursor is None
        with pytest.raises(ValueError, match="cursor"):
            await client.list_instances(cursor="nonsense")
        await instance.terminate("enough")
        assert [one.id for one in (await client.list_instances(state="terminated")).items] == ["i-0"]
        stats = await client.stats()
        assert (stats.instances["running"], stats.instances["terminated"]) == (4, 1)
        exported = await client.export_history("i-0")
        assert '"run_started"' in exported and '"run_terminated"' in exported
        assert [event.number for event in await instance.history()] == [1, 2]


async def test_a_key_makes_a_resend_harmless(ends: tuple[Client, Store]) -> None:
    client, _ = ends

    @durable.workflow
    async def two() -> list[int]:
        return [await go.receive(), await go.receive()]

    async with durable.Worker(client, [two]):
        instance = await client.create_instance(two)
        for _ in range(3):
            await instance.signal(go, 1, key="a")
        await instance.signal(go, 2, key="b")
        assert await instance.result(timeout=5) == [1, 2]
        await instance.signal(go, 1, key="a")  # its sender may not have heard that it arrived
        for ask in (
            instance.signal(go, 3),
            instance.cancel(),
            instance.terminate(),
            instance.pause(),
            instance.resume(),
        ):
            with pytest.raises(durable.InstanceFinished):
                await ask


async def test_pause_and_resume(ends: tuple[Client, Store]) -> None:
    client, store = ends
    async with durable.Worker(client, [waits]):
        instance = await client.create_instance(waits)
        await until(lambda: "commit" in store.calls)
        await instance.pause("audit")
        await instance.signal(go, 1)
        described = await instance.describe()
        assert (described.state, described.reason) == ("paused", "audit")
        await asyncio.sleep(0.03)
        assert (await instance.describe()).state == "paused"
        await instance.resume()
        assert await instance.result(timeout=5) == 1


async def test_a_handle_from_the_start_reaches_the_last_run(ends: tuple[Client, Store]) -> None:
    client, _ = ends

    @durable.workflow
    async def goes_on(number: int = 0) -> int:
        if number == 0:
            durable.continue_as_new(1)
        return await go.receive()

    async with durable.Worker(client, [goes_on]):
        instance = await client.create_instance(goes_on, id="i")

        async def continued() -> bool:
            return (await client.get_instance("i").describe()).run_id != instance.run_id

        await until(continued)
        await instance.pause()
        assert (await client.get_instance("i").describe()).state == "paused"
        await instance.resume()
        await instance.terminate("enough")
        with pytest.raises(durable.WorkflowTerminated, match="enough"):
            await instance.result(timeout=5)


async def test_delete(ends: tuple[Client, Store]) -> None:
    client, _ = ends
    instance = await client.create_instance(waits, id="i")
    with pytest.raises(durable.InstanceFinished, match="unfinished"):
        await instance.delete()
    await instance.terminate()
    await instance.delete()
    with pytest.raises(durable.InstanceNotFound):
        await instance.describe()


async def test_a_state_that_does_not_exist_is_refused() -> None:
    async with durable.connect("memory://") as client:
        with pytest.raises(ValueError, match="there is no state 'nope'; there are cancelled, "):
            await client.list_instances(state="nope")  # type: ignore[arg-type]
        assert (await client.list_instances(state=["running", "failed"])).items == []


async def test_a_run_that_ends_makes_nobody_look_at_the_others(ends: tuple[Client, Store]) -> None:
    client, store = ends
    asked: list[int] = []

    async def get(method: Any, refs: Any) -> Any:
        asked.append(len(refs))
        return await method(refs)

    store.hooks["get"] = get
    async with durable.Worker(client, [waits]):
        instances = [await client.create_instance(waits) for _ in range(60)]
        results = [asyncio.ensure_future(instance.result(timeout=20)) for instance in instances]
        await until(lambda: sum(asked) >= 60, "the first look")
        for instance in instances:
            await instance.signal(go, 1)
            await asyncio.sleep(0)
        assert await asyncio.gather(*results) == [1] * 60
    # At first, when its run ended, and at polls after 50, 100, 200 ms ... A look at all for each end would be 1,800.
    assert sum(asked) < 60 * 8


async def test_a_run_that_ends_unheard_is_found_by_polling(ends: tuple[Client, Store]) -> None:
    client, store = ends
    store.real.bell.ring = lambda *topics, ids=None: None
    async with durable.Worker(client, [waits]):
        instance = await client.create_instance(waits)
        result = asyncio.ensure_future(instance.result(timeout=20))
        await instance.signal(go, 1)
        assert await result == 1
