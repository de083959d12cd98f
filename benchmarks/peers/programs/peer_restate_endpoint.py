"""Restate's handlers, served by hypercorn over HTTP/2, as its documents say; uvloop, which suits it."""

# ruff: noqa: D103
from __future__ import annotations

import asyncio
import sys
from datetime import timedelta

import hypercorn
import hypercorn.asyncio
import restate
import uvloop
from job import HOUR_SECONDS, STEPS, WIDTH

bench = restate.Service("bench")


async def add_one(number: int) -> int:
    return number + 1


@bench.handler()
async def one_activity(ctx: restate.Context, number: int) -> int:
    return await ctx.run_typed("add", add_one, number=number)


@bench.handler()
async def ten_in_sequence(ctx: restate.Context, number: int) -> int:
    for _ in range(STEPS):
        number = await ctx.run_typed("add", add_one, number=number)
    return number


@bench.handler()
async def fan_out(ctx: restate.Context, number: int) -> int:
    all_at_once = [ctx.run_typed("add", add_one, number=number + n) for n in range(WIDTH)]
    return sum([await one for one in await restate.gather(*all_at_once)])


sleeping: list[int] = []


@bench.handler()
async def sleeper(ctx: restate.Context, number: int) -> None:
    sleeping.append(1)
    await ctx.sleep(timedelta(seconds=HOUR_SECONDS))


@bench.handler()
async def asleep(ctx: restate.Context, number: int) -> int:
    return len(sleeping)


async def main() -> None:
    config = hypercorn.Config()
    config.bind = [f"127.0.0.1:{sys.argv[1]}"]
    config.h2_max_concurrent_streams = 2**31 - 1
    config.keep_alive_max_requests = 2**31 - 1
    config.keep_alive_timeout = 2**31 - 1
    await hypercorn.asyncio.serve(restate.app([bench]), config)


uvloop.install()
asyncio.run(main())
