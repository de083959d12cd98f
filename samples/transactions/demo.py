"""Three customers order: one changes her mind before she pays, and one booking is interrupted twice."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from pathlib import Path

import aiosqlite

import durable
from samples.transactions.shop import book, handle_order, make_tables, order


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """What came of one order: its row and its workflow, both or neither, and what was booked for it."""

    order_id: str
    row: bool
    workflow: str | None
    booked_cents: tuple[int, ...]
    paid: bool


async def run(file: Path) -> list[Account]:
    """Run the demo on this file (each time with orders of its own); gives what came of it."""
    batch = secrets.token_hex(2)
    url = f"sqlite:///{file}"
    async with durable.connect(url) as client, aiosqlite.connect(file) as db:
        await make_tables(db)
        async with durable.Worker(client, [handle_order, book]):
            ann = await order(client, db, f"ann-{batch}", 1_200)
            await db.commit()
            await order(client, db, f"eve-{batch}", 9_900)
            await db.rollback()  # she changed her mind: no row, and nothing was ever started
            bob = await order(client, db, f"bob-{batch}", 4_900)
            await db.commit()
            await ann.result(timeout=30)
            await bob.result(timeout=30)
        return [await _account(client, db, f"{name}-{batch}") for name in ("ann", "bob", "eve")]


async def _account(client: durable.Client, db: aiosqlite.Connection, order_id: str) -> Account:
    rows = list(await db.execute_fetchall("SELECT paid FROM orders WHERE id = ?", (order_id,)))
    booked = await db.execute_fetchall("SELECT cents FROM bookings WHERE order_id = ?", (order_id,))
    return Account(
        order_id=order_id,
        row=bool(rows),
        workflow=await _outcome(client.get_instance(f"order-{order_id}", workflow=handle_order)),
        booked_cents=tuple(cents for (cents,) in booked),
        paid=any(paid for (paid,) in rows),
    )


async def _outcome(instance: durable.Instance[str]) -> str | None:
    try:
        return await instance.result(timeout=30)
    except durable.InstanceNotFound:
        return None
