"""Activities with state: methods of an object. The worker gets the methods of the object that has the connection."""

from __future__ import annotations

import asyncio

import durable


class Mailer:
    """What the activity needs: in earnest, a connection."""

    def __init__(self, server: str) -> None:
        self.server = server
        self.sent: list[str] = []

    @durable.activity
    async def send(self, to: str) -> str:
        self.sent.append(to)
        return f"sent to {to} by {self.server}"


mailer = Mailer("nobody")  # the workflow needs the names only: it never touches the object


@durable.workflow
async def greet(names: list[str]) -> list[str]:
    """Sends a mail to each."""
    return [await mailer.send(name) for name in names]


async def main() -> None:
    """The worker's own mailer does the work."""
    own = Mailer("smtp.example")
    async with durable.connect("memory://") as client, durable.Worker(client, [greet, own.send]):
        said = await (await client.create_instance(greet, ["ann", "bob"]))
    print(said)
    assert said == ["sent to ann by smtp.example", "sent to bob by smtp.example"]
    assert (own.sent, mailer.sent) == (["ann", "bob"], [])


if __name__ == "__main__":
    asyncio.run(main())
