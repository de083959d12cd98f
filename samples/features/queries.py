"""Queries: functions nested in the workflow that look and answer, also when it is paused or has ended."""

from __future__ import annotations

import asyncio

import durable

passed: durable.Signal[str] = durable.Signal("passed", str)


@durable.workflow
async def train(stations: list[str]) -> int:
    """Goes from station to station."""
    seen: list[str] = []

    @durable.query
    def next_station() -> str | None:
        return next((name for name in stations if name not in seen), None)

    @durable.query
    def has_passed(name: str) -> bool:
        if name not in stations:
            raise LookupError(f"{name} is not on this line")
        return name in seen

    while len(seen) < len(stations):
        seen.append(await passed.receive())
    return len(seen)


async def main() -> None:
    """Asks while it runs, while it is paused, wrongly, and when it is over."""
    async with durable.connect("memory://") as client, durable.Worker(client, [train]):
        instance = await client.create_instance(train, ["Aberdeen", "Brechin"])
        assert await instance.query("next_station") == "Aberdeen"
        await instance.pause()
        assert await instance.query("has_passed", "Aberdeen") is False
        await instance.resume()
        try:
            await instance.query("has_passed", "Cardiff")
        except durable.QueryFailed as error:
            print(error)
            assert "Cardiff is not on this line" in str(error)
        for station in ("Aberdeen", "Brechin"):
            await instance.signal(passed, station)
        assert await instance == 2
        assert await instance.query("has_passed", name="Brechin") is True, "answered by replay"


if __name__ == "__main__":
    asyncio.run(main())
