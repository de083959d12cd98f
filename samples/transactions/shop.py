"""A shop whose orders and account are in the engine's database.

An order's row and the workflow that handles it come in one transaction (`order`): no row without its workflow, no
workflow without its row. The booking and its activity's result come in one transaction (`book`): the engine may call
the function again after a crash, but what an earlier call wrote is then either recorded with its result, or gone.
"""

from __future__ import annotations

from typing import Any

import durable
from samples.transactions.database import execute

TABLES = (
    "CREATE TABLE orders (id VARCHAR(64) PRIMARY KEY, cents INTEGER NOT NULL, paid INTEGER NOT NULL)",
    "CREATE TABLE bookings (order_id VARCHAR(64) NOT NULL, cents INTEGER NOT NULL)",
)


async def make_tables(db: Any) -> None:
    """The shop's own tables, once."""
    for statement in TABLES:
        await execute(db, statement)


async def order(client: durable.Client, db: Any, id: str, cents: int) -> durable.Instance[str]:
    """Write an order and start its workflow, in the open transaction. Neither is there until the caller commits."""
    await execute(db, "INSERT INTO orders VALUES (?, ?, 0)", id, cents)
    return await client.create_instance(handle_order, id, cents, id=f"order-{id}", connection=db)


@durable.activity(retry=durable.Retry(5, initial=0.05))
async def book(order_id: str, cents: int, interrupted: int = 0) -> str:
    """Book the money. ``interrupted``: so many attempts fail when everything is written but not yet returned."""
    attempt = durable.activity_info().attempt
    async with durable.transaction() as db:
        await execute(db, "INSERT INTO bookings VALUES (?, ?)", order_id, cents)
        await execute(db, "UPDATE orders SET paid = 1 WHERE id = ?", order_id)
        if attempt <= interrupted:
            raise ConnectionError("the lights went out")
    return f"booked in attempt {attempt}"


@durable.workflow
async def handle_order(order_id: str, cents: int) -> str:
    """Have an order paid."""
    return await book(order_id, cents, 2 if order_id.startswith("bob") else 0)
