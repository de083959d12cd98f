"""Small random programs for workflows, and the model of what each must do.

A program is a list of steps: ``["call", ms]`` an activity that takes so long; ``["fan", n, ms]`` n of them at once;
``["sleep", ms]`` a timer; ``["child", program]`` another instance; ``["wait"]`` a signal. Its result is which call of
each of its activities the engine has recorded, so that what it believes can be held against what the activities wrote
down themselves.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import random
from typing import Any

import durable
from tests.processes import tally

Program = list[list[Any]]

_numbers = itertools.count(1)
go: durable.Signal[None] = durable.Signal("go", None)


@durable.activity
async def act(key: str, ms: int) -> str:
    """Write down that the call began, take the time, write down that it ended; gives the call's stamp."""
    stamp = f"{os.getpid()}-{next(_numbers)}"
    tally.write("begun", key, stamp)
    await asyncio.sleep(ms / 1000)
    tally.write("ended", key, stamp)
    return stamp


@durable.workflow
async def run(name: str, program: list[list[Any]]) -> dict[str, str]:
    """Do the steps; gives the recorded call's stamp of each activity's key."""
    done: dict[str, str] = {}
    for number, (kind, *words) in enumerate(program, 1):
        place = f"{name}.{number}"
        if kind == "call":
            done[place] = await act(place, words[0])
        elif kind == "fan":
            keys = [f"{place}.{branch}" for branch in range(1, words[0] + 1)]
            stamps = await asyncio.gather(*(act(key, words[1]) for key in keys))
            done |= dict(zip(keys, stamps, strict=True))
        elif kind == "sleep":
            await asyncio.sleep(words[0] / 1000)
        elif kind == "wait":
            await go.receive()
        else:
            done |= await run(place, words[0])
    return done


def keys(name: str, program: Program) -> set[str]:
    """The model: the activities of a program."""
    found: set[str] = set()
    for number, (kind, *words) in enumerate(program, 1):
        place = f"{name}.{number}"
        if kind == "call":
            found.add(place)
        elif kind == "fan":
            found |= {f"{place}.{branch}" for branch in range(1, words[0] + 1)}
        elif kind == "child":
            found |= keys(place, words[0])
    return found


def draw(chance: random.Random, most_steps: int = 4, most_ms: int = 20, *, nested: bool = True) -> Program:
    """A random program with at least one activity."""
    steps: Program = [["call", chance.randrange(most_ms)]]
    for _ in range(chance.randrange(most_steps)):
        kind = chance.choice(
            ["call", "call", "fan", "sleep", "child"] if nested else ["call", "fan", "sleep"]
        )
        if kind == "child":
            steps.append(["child", draw(chance, 2, most_ms, nested=False)])
        elif kind == "fan":
            steps.append(["fan", chance.randrange(2, 4), chance.randrange(most_ms)])
        else:
            steps.append([kind, chance.randrange(most_ms)])
    chance.shuffle(steps)
    return steps
