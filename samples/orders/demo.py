"""Six orders, one for each way through the workflow. It ends by itself; killed, it goes on when it is started again."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from dataclasses import replace

import durable
from samples.orders.model import Approval, Order, Outcome
from samples.orders.outside import Outside
from samples.orders.workflow import approval, definitions, process_order

ORDERS = (
    Order(id="ann", item="book", cents=1_200),
    Order(id="bob", item="lamp", cents=4_900, card="flaky"),
    Order(id="cat", item="chair", cents=9_900, card="empty"),
    Order(id="dan", item="unicorn", cents=30_000),
    Order(id="eve", item="piano", cents=250_000, approve_within_seconds=60.0),
    Order(id="fay", item="yacht", cents=9_900_000, approve_within_seconds=1.5),
)

# Short, so that a killed demo need not wait long for its own lost worker's work: see the page on concepts.
LEASE_SECONDS = 2.0


async def run(url: str, outside: Outside) -> dict[str, Outcome]:
    """Run the six orders to their ends; gives the outcome of each, by the instance's id."""
    async with durable.connect(url) as client:
        batch = await _unfinished_batch(client) or secrets.token_hex(2)
        async with durable.Worker(client, definitions(outside), lease=LEASE_SECONDS):
            started = [await _instance(client, order, batch) for order in ORDERS]
            await _approve(client, f"eve-{batch}")
            outcomes = await asyncio.gather(*(instance.result(timeout=60) for instance in started))
    return {instance.id: outcome for instance, outcome in zip(started, outcomes, strict=True)}


async def _unfinished_batch(client: durable.Client) -> str | None:
    """The batch of a demo that was killed, if there is one."""
    page = await client.list_instances(workflow=process_order, state=("running", "stalled"), limit=1000)
    return next((found.tags["batch"] for found in page.items if "batch" in found.tags), None)


async def _instance(client: durable.Client, order: Order, batch: str) -> durable.Instance[Outcome]:
    """The order's instance: of the killed demo, finished or not, or else a new one."""
    id = f"{order.id}-{batch}"
    instance = client.get_instance(id, workflow=process_order)
    try:
        await instance.describe()
    except durable.InstanceNotFound:
        return await client.create_instance(
            process_order, replace(order, id=id), id=id, tags={"batch": batch}
        )
    return instance


async def _approve(client: durable.Client, id: str) -> None:
    """As a person would. The key makes it harmless that a demo which goes on sends it again."""
    # Not found is no excuse here, but finished is: it was approved before the demo was killed.
    with contextlib.suppress(durable.InstanceFinished):
        await client.get_instance(id).signal(approval, Approval(by="the boss"), key="the-boss")
