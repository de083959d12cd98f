"""Through PgBouncer in transaction mode, where each transaction may be on another connection of the server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

import durable
from tests.operations.bouncing import CONNECTIONS, bounced
from tests.operations.speaking import ask, connected

approve: durable.Signal[int] = durable.Signal("approve", int)


@pytest.fixture
async def bouncer(postgres_url: str) -> AsyncIterator[str]:
    async with bounced(postgres_url) as url:
        yield url


@durable.activity
async def charge(order: str, cents: int) -> str:
    async with durable.transaction() as connection:
        await connection.execute("INSERT INTO bookings VALUES ($1, $2)", order, cents)
    return f"{order} paid {cents}"


@durable.activity
async def pack(order: str) -> str:
    return f"{order} packed"


@durable.workflow
async def handle(order: str) -> list[str]:
    @durable.query
    def stage() -> str:
        return f"{order} waits"

    packed = asyncio.create_task(pack(order))
    cents = await approve.receive()
    await asyncio.sleep(0.05)
    return [await packed, await charge(order, cents)]


async def test_two_workers_do_everything_through_it(bouncer: str, postgres_url: str) -> None:
    url = f"{bouncer}?pgbouncer=true&poll=0.05&pool_size=6"
    async with (
        connected(postgres_url) as server,
        durable.connect(url) as one,
        durable.connect(url) as other,
        durable.Worker(one, [handle, charge, pack]),
        durable.Worker(other, [handle, charge, pack]),
    ):
        await ask(server, "CREATE TABLE bookings (id text, cents int)")
        orders = [await one.create_instance(handle, f"o{n}", id=f"o{n}") for n in range(20)]
        assert await asyncio.gather(*(order.query("stage") for order in orders)) == [
            f"o{n} waits" for n in range(20)
        ]
        async with connected(bouncer) as caller:
            await caller.execute("BEGIN")
            await other.get_instance("o0").signal(approve, 0, connection=caller)
            await caller.execute("COMMIT")
        await asyncio.gather(*(orders[n].signal(approve, n) for n in range(1, 20)))
        assert await asyncio.gather(*orders) == [[f"o{n} packed", f"o{n} paid {n}"] for n in range(20)]
        booked = await ask(server, "SELECT id, cents FROM bookings ORDER BY cents")
        assert [(row["id"], row["cents"]) for row in booked] == [(f"o{n}", n) for n in range(20)]
        assert await one.audit() == []
        through = "SELECT count(*) AS n FROM pg_stat_activity WHERE datname = current_database()"
        (row,) = await ask(server, through)
        assert row["n"] <= CONNECTIONS + 1


async def test_without_the_option_it_says_which_to_set(bouncer: str) -> None:
    with pytest.raises(durable.BackendError) as caught:
        async with durable.connect(bouncer):
            pass
    assert "this is PgBouncer, or another pooler, in front of the server; add ?pgbouncer=true" in str(
        caught.value
    )
