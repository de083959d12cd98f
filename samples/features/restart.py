"""A restart in the middle: one worker leaves, another one goes on, and nothing that was recorded is done again."""

from __future__ import annotations

import asyncio
import tempfile

import durable

done: list[int] = []
go: durable.Signal[None] = durable.Signal("go", None)


@durable.activity
async def step(number: int) -> int:
    """Writes down that it was done."""
    done.append(number)
    return number


@durable.workflow
async def climb(steps: int) -> int:
    """Rests in the middle."""
    for number in range(steps):
        if number == steps // 2:
            await go.receive()
        await step(number)
    return steps


async def main() -> None:
    """Two workers, one after the other, on one file."""
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{folder}/climb.db"
        async with durable.connect(url) as client, durable.Worker(client, [climb, step]):
            instance = await client.create_instance(climb, 6, id="climb")
            while (await instance.describe()).history_length < 7:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        print("before the restart:", done)
        async with durable.connect(url) as client, durable.Worker(client, [climb, step]):
            same = client.get_instance("climb", workflow=climb)
            await same.signal(go, None)
            assert await same.result(timeout=10) == 6
    print("after it:", done)
    assert done == [0, 1, 2, 3, 4, 5], "each once"


if __name__ == "__main__":
    asyncio.run(main())
