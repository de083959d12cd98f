"""Children: workflows that a workflow starts. `await` is start-and-wait; `durable.start` gives a handle at once."""

from __future__ import annotations

import asyncio

import durable


class NoPaper(Exception):
    """It comes out of the parent's await as itself."""


@durable.workflow
async def print_page(number: int) -> str:
    """There is no page 13."""
    if number == 13:
        raise NoPaper("page 13")
    return f"page {number}"


@durable.workflow
async def binding(weeks: int) -> None:
    """Takes its time."""
    await asyncio.sleep(weeks * 7 * 24 * 3600)


@durable.workflow
async def print_book() -> list[str]:
    """Some pages, and two bindings that it does not wait for."""
    pages = [await print_page(1), *await asyncio.gather(print_page(2), print_page(3))]
    try:
        await print_page(13)
    except NoPaper as error:
        pages.append(f"no {error}")
    abandoned = durable.start(binding, 1, id="goes-on", parent_close="abandon")
    ended = durable.start(binding, 1, id="ends-with-us", parent_close="terminate")
    await abandoned.started()
    await ended.started()
    return pages


async def main() -> None:
    """What becomes of children when their parent ends."""
    async with (
        durable.connect("memory://") as client,
        durable.Worker(client, [print_book, print_page, binding]),
    ):
        pages = await (await client.create_instance(print_book))
        print(pages)
        assert pages == ["page 1", "page 2", "page 3", "no page 13"]
        assert (await client.get_instance("goes-on").describe()).state == "running"
        try:
            await client.get_instance("ends-with-us")
            raise AssertionError("it was to be terminated")
        except durable.WorkflowTerminated as error:
            print(error)


if __name__ == "__main__":
    asyncio.run(main())
