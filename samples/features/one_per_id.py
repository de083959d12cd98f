"""One unfinished run for each id, whoever races: what `if_exists` says about the second one."""

from __future__ import annotations

import asyncio

import durable

done: durable.Signal[str] = durable.Signal("done", str)


@durable.workflow
async def nightly(by: str) -> str:
    """Waits for the end of the night."""
    return f"{by}: {await done.receive()}"


async def main() -> None:
    """Five schedulers want to start the same job."""
    async with durable.connect("memory://") as client, durable.Worker(client, [nightly]):
        racing = [client.create_instance(nightly, f"s{number}", id="job-may-1") for number in range(5)]
        outcomes = await asyncio.gather(*racing, return_exceptions=True)
        taken = [outcome for outcome in outcomes if isinstance(outcome, durable.InstanceAlreadyExists)]
        print(taken[0])
        assert len(taken) == 4

        same = await client.create_instance(nightly, "late", id="job-may-1", if_exists="use")
        await same.signal(done, "one")
        assert await same in {f"s{number}: one" for number in range(5)}

        first = await client.create_instance(
            nightly, "first", id="job-may-1"
        )  # it is finished: the id is free
        second = await client.create_instance(nightly, "second", id="job-may-1", if_exists="replace")
        await second.signal(done, "two")
        assert await second == "second: two"
        try:
            await first
        except durable.WorkflowTerminated as error:
            print(error)


if __name__ == "__main__":
    asyncio.run(main())
