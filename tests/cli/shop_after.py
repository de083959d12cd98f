"""The same shop after changes: one breaks old instances, one is guarded, one never awaits, and a version is gone."""

import asyncio

import durable


@durable.activity
async def charge(order: str) -> str:
    return order


@durable.activity
async def weigh(order: str) -> str:
    return order


@durable.workflow
async def order(name: str) -> str:
    await weigh(name)
    await asyncio.sleep(3600)
    return name


@durable.workflow
async def quick(name: str) -> str:
    if durable.patched("weigh-first"):
        await weigh(name)
    return await charge(name)


@durable.workflow(version="2")
async def priced(name: str) -> None:
    await asyncio.sleep(3600)


@durable.workflow
async def elsewhere() -> None:
    while True:
        pass
