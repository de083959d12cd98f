"""What a run knows of itself: `durable.info()`, and a logger that says nothing twice."""

from __future__ import annotations

import asyncio
import logging

import durable


@durable.workflow
async def child() -> str | None:
    """Knows its parent."""
    parent = durable.info().parent
    return parent[0] if parent else None


@durable.workflow
async def look() -> list[object]:
    """Replayed from the top for each of its tasks, and yet each line is logged once."""
    durable.logger.info("begins")
    before = durable.info().history_length
    parent = await child()
    await asyncio.sleep(0.01)
    durable.logger.info("ends")
    about = durable.info()
    assert about.history_length > before
    return [about.instance_id, about.workflow, about.queue, parent, about.continue_as_new_suggested]


class Lines(logging.Handler):
    """Collects what is logged."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


async def main() -> None:
    """With a worker that keeps nothing in memory."""
    handler, log = Lines(), logging.getLogger("durable.workflow")
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    async with durable.connect("memory://") as client, durable.Worker(client, [look, child], cache_size=0):
        found = await (await client.create_instance(look, id="x"))
    log.removeHandler(handler)
    print(found, handler.lines)
    assert found == ["x", "look", "default", "x", False]
    assert handler.lines == ["[x] begins", "[x] ends"]


if __name__ == "__main__":
    asyncio.run(main())
