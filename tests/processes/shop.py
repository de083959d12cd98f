"""The shop's process: ``python -m tests.processes.shop URL POINT`` takes three orders and dies at the point named."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import durable
from tests.processes import bookings


async def main(url: str, deadly: str) -> None:
    def point(name: str) -> None:
        if name == deadly:
            bookings.die_once("shop", name)

    async with durable.connect(url) as client, bookings.books(url) as db:
        for number in range(3):
            order = f"{deadly}-{number}"
            await _take(client, db, order, point if number == 1 else lambda name: None)
            await _pay(client, db, order, point if number == 1 else lambda name: None)


async def _take(client: durable.Client, db: Any, order: str, point: Any) -> None:
    await bookings.execute(db, "BEGIN")
    await bookings.execute(db, f"INSERT INTO orders VALUES ('{order}', 0)")
    point("inserted")
    await client.create_instance(bookings.wait_for_money, order, id=order, connection=db)
    point("created")
    await bookings.execute(db, "COMMIT")
    point("committed")


async def _pay(client: durable.Client, db: Any, order: str, point: Any) -> None:
    await bookings.execute(db, "BEGIN")
    await bookings.execute(db, f"UPDATE orders SET paid = 1 WHERE id = '{order}'")
    point("paid")
    await client.get_instance(order).signal(bookings.paid, 100, connection=db)
    point("signalled")
    await bookings.execute(db, "COMMIT")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
