"""A workflow to be debugged."""

from __future__ import annotations

import asyncio

import durable

ran: list[str] = []


@durable.activity
async def charge(order: str) -> str:
    ran.append(order)
    return f"receipt {order}"


async def _watched(order: str) -> str:
    total = len(order)
    receipt = await charge(order)
    return receipt + str(total)


@durable.workflow
async def bought(order: str) -> str:
    first = asyncio.create_task(_watched(order + "-a"), name="first")
    second = asyncio.create_task(_watched(order + "-b"), name="second")
    both = await asyncio.gather(first, second)
    await asyncio.sleep(60)
    return ", ".join(both)
