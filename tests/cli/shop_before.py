"""The code of a shop, before a deployment."""

import asyncio

import durable


@durable.activity
async def charge(order: str) -> str:
    return order


@durable.workflow
async def order(name: str) -> str:
    await charge(name)
    await asyncio.sleep(3600)
    return name


@durable.workflow
async def quick(name: str) -> str:
    return await charge(name)


@durable.workflow(version="1")
async def priced(name: str) -> None:
    await asyncio.sleep(3600)


@durable.workflow
async def elsewhere() -> None:
    await asyncio.sleep(3600)
