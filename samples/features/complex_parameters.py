"""Arguments and results: whatever pydantic can validate, decoded back to its annotated type on both sides."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum
from typing import NamedTuple
from uuid import UUID

from pydantic import BaseModel

import durable


class Unit(Enum):
    """An enum."""

    PIECE = "piece"
    KILO = "kilo"


class Line(NamedTuple):
    """A named tuple."""

    item: str
    price: Decimal
    unit: Unit = Unit.PIECE


@dataclass(frozen=True)
class Order:
    """A dataclass with generics, a union and bytes in it."""

    id: UUID
    lines: tuple[Line, ...]
    due: datetime | None = None
    picture: bytes = b""


class Bill(BaseModel):
    """A pydantic model."""

    order: Order
    total: Decimal


@durable.activity
async def add_up(order: Order, *, discount: Decimal = Decimal(0)) -> Bill:
    """Gets an `Order`, gives a `Bill`."""
    return Bill(order=order, total=sum((line.price for line in order.lines), Decimal(0)) - discount)


@durable.workflow
async def bill(order: Order) -> Bill:
    """Keyword arguments are kept."""
    return await add_up(order, discount=Decimal("0.05"))


async def main() -> None:
    """What does not fit is refused at the door, before anything is written."""
    lines = (Line("book", Decimal("12.10")), Line("rice", Decimal("3.95"), Unit.KILO))
    order = Order(UUID(int=7), lines, datetime(2030, 1, 1, tzinfo=UTC), b"\x89PNG")
    async with durable.connect("memory://") as client, durable.Worker(client, [bill, add_up]):
        found = await (await client.create_instance(bill, order))
        print(found.total, found.order.lines[1].unit)
        assert found == Bill(order=order, total=Decimal("16.00"))
        try:
            await client.create_instance("bill", object())
        except durable.PayloadError as error:
            print(error)


if __name__ == "__main__":
    asyncio.run(main())
