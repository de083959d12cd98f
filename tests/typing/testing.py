"""Typed use of `durable.testing`; see `usage`. Nothing runs here."""
# pyright: reportUnnecessaryTypeIgnoreComment=true

from __future__ import annotations

from datetime import datetime, timedelta
from typing import assert_type

import durable
from durable.testing import (
    Crashes,
    Environment,
    Recorded,
    crash_everywhere,
    freeze,
    replay,
    replay_frozen,
)

approve: durable.Signal[str] = durable.Signal("approve", str)


@durable.activity
async def charge(order: str, cents: int) -> str:
    return f"{order}-{cents}"


@durable.workflow
async def checkout(order: str) -> int:
    return len(await charge(order, 5))


async def environments() -> None:
    async with Environment([checkout, charge], now=datetime(2030, 1, 1), seed=7, cache_size=0) as env:
        assert_type(await env.run(checkout, "o-1"), int)
        await env.run(checkout, 5)  # type: ignore[arg-type]
        instance = await env.start(checkout, "o-2", id="o-2", tags={"shop": "eu"})
        assert_type(instance, durable.Instance[int])
        assert_type(await env.history(instance), list[durable.HistoryEvent])
        env.signal_at(timedelta(days=1), instance, approve, "yes")
        env.at(5, lambda: instance.cancel())
        await env.advance(timedelta(hours=1))
        await env.advance(3600)
        assert_type(env.now, datetime)
        assert_type(env.client, durable.Client)
        assert_type(env.recorded, list[Recorded])
        assert_type(await instance.fork(at=1), durable.Instance[int])


async def charged(order: str, cents: int) -> str:
    return order * cents


async def mocks(env: Environment) -> None:
    mocked = env.mock(charge, "receipt")
    mocked.assert_called_once_with("o-1", 4)
    mocked.assert_called_once_with("o-1")  # type: ignore[call-arg]
    env.mock(charge, charged)
    env.mock(charge, ValueError("no"))
    env.mock(charge, ValueError)
    env.mock(charge, returns="receipt", takes=timedelta(days=1))
    env.mock(charge, raises=ValueError)
    env.mock(charge, calls=charged)
    env.mock(charge, calls=lambda order, cents: order * cents)
    env.mock(charge, side_effect=["one", ValueError(), TimeoutError])
    env.mock(checkout, 5)
    env.mock(checkout)
    env.mock(len, 5)  # type: ignore[call-overload]


async def others(env: Environment, text: str) -> None:
    replay(checkout, text)
    freeze("histories", env.recorded, "name")
    assert_type(replay_frozen("histories", [checkout]), int)
    assert_type(
        await crash_everywhere(checkout, "o-1", activities=[charge], setup=lambda e: e.mock(charge, "x")),
        Crashes,
    )
