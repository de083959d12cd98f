"""The ten lines of the README, as they stand there."""
# fmt: off
# ruff: noqa: D103, E401, I001, SIM117

import asyncio, durable

@durable.activity
async def charge(order_id: str, cents: int) -> str:          # may do I/O; retried automatically
    return f"receipt-{order_id}-{cents}"

@durable.workflow
async def checkout(order_id: str) -> str:                    # deterministic; survives any crash
    receipt = await charge(order_id, 4200)                   # runs on a worker, recorded once
    await asyncio.sleep(1)                                   # a durable timer
    return receipt

async def main() -> None:
    async with durable.connect("sqlite:///shop.db") as client:
        async with durable.Worker(client, [checkout, charge]):
            instance = await client.create_instance(checkout, "o-1", id="order-o-1")
            print(await instance)                            # or: await instance.result(timeout=30)

asyncio.run(main())
