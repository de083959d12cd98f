"""Hooks: look on when instances start and signals are sent, and around tasks and attempts. For tracing and counting."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager

import durable

go: durable.Signal[None] = durable.Signal("go", None)


class Tracing(durable.Hooks):
    """Gives each instance a trace id as a header, which its tasks and attempts bring back."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def on_start(self, workflow: str, instance_id: str, headers: MutableMapping[str, str]) -> None:
        headers["trace"] = f"trace-of-{instance_id}"
        self.seen.append(f"start {workflow}")

    def on_signal(self, instance_id: str, name: str) -> None:
        self.seen.append(f"signal {name}")

    @contextmanager
    def around_task(self, workflow: str, instance_id: str, headers: Mapping[str, str]) -> Iterator[None]:
        self.seen.append(f"task of {workflow}, {headers['trace']}")
        yield

    @contextmanager
    def around_activity(
        self, activity: str, instance_id: str, attempt: int, headers: Mapping[str, str]
    ) -> Iterator[None]:
        self.seen.append(f"{activity} begins, {headers['trace']}")
        yield
        self.seen.append(f"{activity} ends")


@durable.activity
async def greet(name: str) -> str:
    """Something to look at."""
    return f"Hello {name}"


@durable.workflow
async def hello(name: str) -> str:
    """Waits for a signal, so that there is one."""
    await go.receive()
    return await greet(name)


async def main() -> None:
    """A hook that raised would be logged, and change nothing."""
    tracing = Tracing()
    async with (
        durable.connect("memory://", hooks=[tracing]) as client,
        durable.Worker(client, [hello, greet]),
    ):
        instance = await client.create_instance(hello, "Ann", id="h")
        await instance.signal(go, None)
        assert await instance == "Hello Ann"
    print(*tracing.seen, sep="\n")
    assert tracing.seen[0] == "start hello"
    assert {"signal go", "task of hello, trace-of-h", "greet begins, trace-of-h", "greet ends"} <= {
        *tracing.seen
    }


if __name__ == "__main__":
    asyncio.run(main())
