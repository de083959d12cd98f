"""Complete later: the activity hands out a token, and somebody else finishes it, in another process or another week."""

from __future__ import annotations

import asyncio

import durable

letters: dict[str, str] = {}


class Refused(Exception):
    """What the person said."""


@durable.activity
async def ask(person: str) -> str:
    """Writes a letter with the token in it, and ends; no worker waits for the answer."""
    letters[person] = await durable.complete_later()
    return "ignored"


@durable.workflow
async def survey(person: str) -> str:
    """Waits as for any activity."""
    try:
        return f"{person}: {await ask(person)}"
    except Refused as error:
        return f"{person} refused: {error}"


async def main() -> None:
    """One answers, one refuses, and an answer that comes twice is refused by us."""
    async with durable.connect("memory://") as client, durable.Worker(client, [survey, ask]):
        ann = await client.create_instance(survey, "ann")
        bob = await client.create_instance(survey, "bob")
        while len(letters) < 2:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        await client.complete_activity(letters["ann"], "yes")
        await client.fail_activity(letters["bob"], Refused("go away"))
        assert await ann == "ann: yes"
        assert await bob == "bob refused: go away"
        try:
            await client.complete_activity(letters["ann"], "no")
        except durable.InstanceFinished as error:
            print(error)


if __name__ == "__main__":
    asyncio.run(main())
