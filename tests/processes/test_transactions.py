"""The user's own tables and the engine's, in one transaction, while processes die between any two statements."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
from pathlib import Path

import pytest

import durable
from tests.processes import bookings, tally
from tests.processes.conftest import SEEDS
from tests.processes.crew import ROOT, Crew


async def test_money_is_booked_once_whenever_its_process_dies(server_url: str, tmp_path: Path) -> None:
    url = server_url  # SQLite's are killed in tests/worker
    orders = {f"{point}-": 10 + number for number, point in enumerate((*bookings.POINTS, "never"))}
    async with (
        durable.connect(url) as client,
        bookings.books(url) as db,
        Crew(url, tmp_path, lease=1.0, max_activities=2) as crew,
    ):
        await bookings.open_books(db)
        waits = []
        for order, cents in orders.items():
            instance = await client.create_instance(
                bookings.handle, order, cents, order.partition("-")[0], id=order
            )
            waits.append(asyncio.ensure_future(instance.result(timeout=100)))
        # Two slots only: a death counts against all that the worker had in hand, and the tenth is an activity's end.
        await _replaced_until(crew, 2, asyncio.gather(*waits))
        assert sorted(await bookings.execute(db, "SELECT id, cents FROM bookings")) == sorted(orders.items())
        assert await bookings.execute(db, "SELECT cents FROM account") == [(sum(orders.values()),)]
        # A later statement may never come, when two are booked at once: the second's countdown replaces the first's.
        assert len(bookings.died(tmp_path)) >= len(bookings.POINTS) - 3
        assert await client.audit() == []


@pytest.mark.parametrize("seed", SEEDS)
async def test_money_is_booked_once_while_workers_are_killed_at_any_time(
    server_url: str, tmp_path: Path, seed: int
) -> None:
    chance, url = random.Random(seed), server_url
    orders = {f"o-{number}": 10 + number for number in range(60)}
    async with (
        durable.connect(url) as client,
        bookings.books(url) as db,
        Crew(url, tmp_path, lease=1.0) as crew,
    ):
        await bookings.open_books(db)
        instances = [
            await client.create_instance(bookings.handle, order, cents, "", id=order)
            for order, cents in orders.items()
        ]
        for _ in range(4):
            (hand,) = await crew.start()
            done = len(await bookings.execute(db, "SELECT id FROM bookings"))
            wanted = min(done + chance.randrange(1, 16), len(orders))
            async with asyncio.timeout(30):
                while len(await bookings.execute(db, "SELECT id FROM bookings")) < wanted:  # noqa: ASYNC110
                    await asyncio.sleep(0.001)  # the booking's row is what the worker's commit shows
            await crew.kill(hand)
        await crew.start()
        await asyncio.gather(*(instance.result(timeout=100) for instance in instances))
        assert sorted(await bookings.execute(db, "SELECT id, cents FROM bookings")) == sorted(orders.items())
        assert await bookings.execute(db, "SELECT cents FROM account") == [(sum(orders.values()),)]
        assert await client.audit() == []


async def _replaced_until(crew: Crew, count: int, done: asyncio.Future[list[str]]) -> None:
    """Keep so many workers alive, whatever they die of, until it is done."""
    await crew.start(count)
    while not done.done():
        for hand in list(crew.hands):
            if hand.process.returncode is not None:
                assert hand.process.returncode == -signal.SIGKILL, hand.said()
                crew.hands.remove(hand)
                await crew.start()
        await asyncio.wait(
            [done, *(asyncio.ensure_future(hand.process.wait()) for hand in crew.hands)],
            return_when=asyncio.FIRST_COMPLETED,
        )
    await done


POINTS = ("inserted", "created", "committed", "paid", "signalled")


async def test_an_order_and_its_workflow_come_together_or_not_at_all(url: str, tmp_path: Path) -> None:
    """A shop, in a process of its own, dies between any two of its statements; orders and instances are the same."""
    async with durable.connect(url) as client, bookings.books(url) as db:
        await bookings.open_books(db)
        for deadly in (*POINTS, "never"):
            assert await _shop(url, tmp_path, deadly) == (0 if deadly == "never" else -signal.SIGKILL)
        orders = dict(await bookings.execute(db, "SELECT id, paid FROM orders"))
        found = {item.id for item in (await client.list_instances(limit=1000)).items}
        assert found == set(orders)
        assert orders == {
            **{f"{deadly}-0": 1 for deadly in POINTS},
            **{f"{deadly}-1": 0 for deadly in ("committed", "paid", "signalled")},
            **{f"never-{number}": 1 for number in range(3)},
        }
        async with Crew(url, tmp_path) as crew:
            await crew.start()
            for order, is_paid in orders.items():
                instance = client.get_instance(order, workflow=bookings.wait_for_money)
                if is_paid:
                    assert await instance.result(timeout=30) == 100


async def _shop(url: str, folder: Path, deadly: str) -> int:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.processes.shop",
        url,
        deadly,
        cwd=ROOT,
        env={**os.environ, tally.VARIABLE: str(folder / "tally.txt")},
    )
    async with asyncio.timeout(60):
        return await process.wait()
