"""Three customers order: one changes her mind before she pays, and one booking is interrupted twice."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Any

import durable
from samples.transactions.database import connected, execute, transaction
from samples.transactions.shop import book, handle_order, make_tables, order


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """What came of one order: its row and its workflow, both or neither, and what was booked for it."""

    order_id: str
    row: bool
    workflow: str | None
    booked_cents: tuple[int, ...]
    paid: bool


class ChangedHerMind(Exception):
    """And so there shall be no order."""


async def run(url: str, *, new: bool = True) -> list[Account]:
    """Run the demo on this database, with orders of its own; ``new``: the shop has no tables there yet."""
    batch = secrets.token_hex(2)
    async with durable.connect(url) as client, connected(url) as db:
        if new:
            await make_tables(db)
        async with durable.Worker(client, [handle_order, book]):
            async with transaction(db):
                ann = await order(client, db, f"ann-{batch}", 1_200)
            try:
                async with transaction(db):
                    await order(client, db, f"eve-{batch}", 9_900)
                    raise ChangedHerMind
            except ChangedHerMind:
                pass  # no row, and nothing was ever started
            async with transaction(db):
                bob = await order(client, db, f"bob-{batch}", 4_900)
            await ann.result(timeout=30)
            await bob.result(timeout=30)
        return [await _account(client, db, f"{name}-{batch}") for name in ("ann", "bob", "eve")]


async def _account(client: durable.Client, db: Any, order_id: str) -> Account:
    rows = await execute(db, "SELECT paid FROM orders WHERE id = ?", order_id)
    booked = await execute(db, "SELECT cents FROM bookings WHERE order_id = ?", order_id)
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
