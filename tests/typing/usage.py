"""Typed use of the public names. Nothing runs here: mypy and pyright read it (`make check`).

What is right must be clean. What is wrong must be an error: each such line carries the error that it expects, and both
checkers are told to complain about an expectation that is not met, so a type that becomes too loose is seen.
"""
# pyright: reportUnnecessaryTypeIgnoreComment=true

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import assert_type

import durable


@dataclass(frozen=True)
class Order:
    id: str
    cents: int


@dataclass(frozen=True)
class Approval:
    by: str


approve: durable.Signal[Approval] = durable.Signal("approve", Approval)
anything: durable.Signal[object] = durable.Signal("anything")


@durable.activity
async def charge(order: Order, cents: int) -> str:
    return f"receipt-{order.id}-{cents}"


@durable.activity(timeout=5, retry=durable.Retry(max_attempts=None))
def weigh(order: Order, *, exact: bool = False) -> float:
    return 1.0 if exact else 2.0


class Shop:
    @durable.activity
    async def ship(self, order: Order) -> int:
        return order.cents


shop = Shop()


@durable.workflow
async def child(order: Order) -> float:
    return await weigh(order, exact=True)


@durable.workflow(name="checkout", timeout=60.0)
async def checkout(order: Order) -> str:
    # Activities keep their parameters and results, with options too, async or not.
    assert_type(await charge(order, 5), str)
    assert_type(await charge.options(queue="eu")(order, cents=5), str)
    assert_type(await weigh(order), float)
    assert_type(await shop.ship(order), int)
    await charge(order)  # type: ignore[call-arg]
    await charge(order, "5")  # type: ignore[arg-type]
    await charge(order, 5, 6)  # type: ignore[call-arg]
    await charge.options(queue="eu")(order, "5")  # type: ignore[arg-type]
    await weigh(order, True)  # type: ignore[call-arg]
    await weigh(order, exakt=True)  # type: ignore[call-arg]
    await shop.ship("o-1")  # type: ignore[arg-type]

    # Their calls are coroutines, so they go where coroutines go.
    assert_type(await asyncio.gather(charge(order, 5), charge(order, 6)), tuple[str, str])
    async with asyncio.TaskGroup() as group:
        weighing = group.create_task(weigh(order))
    assert_type(weighing.result(), float)
    assert_type(await asyncio.wait_for(shop.ship(order), timeout=5), int)

    # Children.
    assert_type(await child(order), float)
    started = durable.start(child, order, id="c-1", parent_close="cancel")
    assert_type(started, durable.ChildInstance[float])
    assert_type(await started, float)
    await child("o-1")  # type: ignore[arg-type]
    durable.start(child, order, parent_close="never")  # type: ignore[call-overload]

    # Signals.
    assert_type(await approve.receive(), Approval)
    assert_type(approve.receive_nowait(), Approval | None)
    async for approval in approve:
        assert_type(approval, Approval)
    await started.signal(approve, Approval("ann"))
    await durable.get_instance("o-2").signal("by name", {"any": "value"})

    assert_type(durable.side_effect(lambda: 5), int)
    await durable.wait_condition(lambda: approve.pending > 3, timeout=5)
    return await charge(order, 5)


@durable.workflow
async def no_arguments() -> None:
    await durable.sleep(5)


async def client_side() -> None:
    async with durable.connect("memory://") as client:
        assert_type(client, durable.Client)
        instance = await client.create_instance(
            checkout, Order("o", 1), id="o-1", if_exists="use", tags={"a": "b"}
        )
        assert_type(instance, durable.Instance[str])
        assert_type(await instance, str)
        assert_type(await instance.result(timeout=5), str)
        await client.create_instance(no_arguments)
        await client.create_instance(checkout, kwargs={"order": Order("o", 1)})
        await client.create_instance("checkout", 1, 2, 3)

        await client.create_instance(checkout)  # type: ignore[arg-type, call-arg]
        await client.create_instance(checkout, "o-1")  # type: ignore[arg-type]
        await client.create_instance(checkout, Order("o", 1), 5)  # type: ignore[arg-type, call-arg]
        await client.create_instance(no_arguments, 5)  # type: ignore[arg-type]
        await client.create_instance(checkout, Order("o", 1), if_exists="maybe")  # type: ignore[call-overload]

        assert_type(await client.get_instance("o-1", workflow=checkout), str)
        await instance.signal(approve, Approval("ann"), key="once")
        await instance.signal("approve", {"by": "ann"})
        await instance.signal(approve, "ann")  # type: ignore[misc]
        assert_type(await instance.history(), list[durable.HistoryEvent])
        page = await client.list_instances(workflow=checkout, state="running", limit=10)
        assert_type(page, durable.Page)

        async with durable.Worker(client, [checkout, child, charge, weigh, shop.ship], lease=5):
            pass
        await durable.Worker(client, [checkout], queues=["default", "eu"]).run()

        # Lists that were made beforehand, whatever a checker takes them for.
        code = [checkout, charge, shop.ship]
        durable.Worker(client, code)
        workflows, activities = [child, checkout], [charge, weigh]
        durable.Worker(client, [*workflows, *activities])


@durable.workflow  # type: ignore[arg-type]
def not_async(order: Order) -> str:
    return order.id


@durable.activity(timeouts=5)  # type: ignore[call-overload, untyped-decorator]
async def unknown_option(order: Order) -> str:
    return order.id


async def unit_tests() -> None:
    """Outside of a worker the functions are what they were."""
    assert_type(await charge(Order("o", 1), 5), str)
