"""A program with workflows that iterate sets; prints their histories, or replays those it is given.

Run by `test_hash_seeds` in processes with other hash seeds.
"""

from __future__ import annotations

import asyncio
import json
import sys

import durable
from durable.testing import replay

CITIES = {"Athens", "Berlin", "Cairo", "Delhi", "Edinburgh", "Florence", "Geneva", "Hanoi"}


@durable.activity
async def visit(city: str) -> str:
    return city


@durable.workflow
async def in_any_order() -> list[str]:
    return [await visit(city) for city in CITIES]


@durable.workflow
async def all_at_once() -> None:
    await asyncio.gather(*(visit(city) for city in CITIES))


@durable.workflow
async def sorted_first() -> list[str]:
    return [await visit(city) for city in sorted(CITIES)]


@durable.workflow
async def the_first_only() -> str:
    return await visit(next(iter(CITIES)))


WORKFLOWS = {each.definition.name: each for each in (in_any_order, all_at_once, sorted_first, the_first_only)}


async def record() -> dict[str, str]:
    async with durable.connect("memory://") as client, durable.Worker(client, [visit, *WORKFLOWS.values()]):
        made = {name: await client.create_instance(each) for name, each in WORKFLOWS.items()}
        await asyncio.gather(*made.values())
        return {name: await client.export_history(instance.id) for name, instance in made.items()}


def verdict(name: str, history: str, same_code: bool) -> str:
    try:
        replay(WORKFLOWS[name], history, same_code=same_code)
    except durable.NonDeterminismError as error:
        return str(error)
    return "agrees"


if __name__ == "__main__":
    if sys.argv[1] == "record":
        print(json.dumps(asyncio.run(record())))  # noqa: T201
    else:
        given = json.load(sys.stdin)
        print(  # noqa: T201
            json.dumps(
                {
                    f"{name} {same}": verdict(name, text, same)
                    for name, text in given.items()
                    for same in (False, True)
                }
            )
        )
