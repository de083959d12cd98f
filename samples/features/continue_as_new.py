"""Continue as new: a workflow without an end, whose history does not grow. The id and the signals stay."""

from __future__ import annotations

import asyncio

import durable

coin: durable.Signal[int] = durable.Signal("coin", int)


@durable.workflow
async def piggy_bank(saved: int, goal: int) -> int:
    """Each run takes two coins. In earnest: when `durable.info().continue_as_new_suggested`."""
    for _ in range(2):
        saved += await coin.receive()
        durable.set_var("saved", saved)
        if saved >= goal:
            return saved
    durable.continue_as_new(saved, goal)


async def main() -> None:
    """Seven coins, of which no run loses one; the result is that of the last run."""
    async with durable.connect("memory://") as client, durable.Worker(client, [piggy_bank]):
        instance = await client.create_instance(piggy_bank, 0, 700, id="pig")
        for _ in range(7):
            await instance.signal(coin, 100)
        assert await instance == 700
        last = await instance.describe()
        first = await client.get_instance("pig", run_id=instance.run_id).describe()
    print(f"first run: {first.state}, {first.vars}; last run: {last.state}, {last.vars}")
    assert (first.state, last.state) == ("continued_as_new", "completed")
    assert last.history_length < 10 and last.first_run_id == first.run_id


if __name__ == "__main__":
    asyncio.run(main())
