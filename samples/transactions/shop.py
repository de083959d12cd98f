"""A shop whose orders and account are in the engine's file.

An order's row and the workflow that handles it come in one transaction (`order`): no row without its workflow, no
workflow without its row. The booking and its activity's result come in one transaction (`book`): the engine may call
the function again after a crash, but what an earlier call wrote is then either recorded with its result, or gone.
"""

from __future__ import annotations

import aiosqlite

import durable

TABLES = (
    "CREATE TABLE IF NOT EXISTS orders (id TEXT PRIMARY KEY, cents INTEGER NOT NULL, paid INTEGER NOT NULL DEFAULT 0)",
    "CREATE TABLE IF NOT EXISTS bookings (order_id TEXT NOT NULL, cents INTEGER NOT NULL)",
)


async def make_tables(db: aiosqlite.Connection) -> None:
    """The shop's own tables."""
    for statement in TABLES:
        await db.execute(statement)
    await db.commit()


async def order(
    client: durable.Client, db: aiosqlite.Connection, id: str, cents: int
) -> durable.Instance[str]:
    """Write an order and start its workflow. Neither is there until the caller commits."""
    await db.execute("INSERT INTO orders (id, cents) VALUES (?, ?)", (id, cents))
    return await client.create_instance(handle_order, id, cents, id=f"order-{id}", connection=db)


@durable.activity(retry=durable.Retry(5, initial=0.05))
async def book(order_id: str, cents: int, interrupted: int = 0) -> str:
    """Book the money. ``interrupted``: so many attempts fail when everything is written but not yet returned."""
    attempt = durable.activity_info().attempt
    async with durable.transaction() as db:
        await db.execute("INSERT INTO bookings VALUES (?, ?)", (order_id, cents))
        await db.execute("UPDATE orders SET paid = 1 WHERE id = ?", (order_id,))
        if attempt <= interrupted:
            raise ConnectionError("the lights went out")
    return f"booked in attempt {attempt}"


@durable.workflow
async def handle_order(order_id: str, cents: int) -> str:
    """Have an order paid."""
    return await book(order_id, cents, 2 if order_id.startswith("bob") else 0)
