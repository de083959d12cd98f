"""The workflow that is killed: steps one after another, with a timer between them."""

from __future__ import annotations

import asyncio
import os
import random
from pathlib import Path

import durable
from samples.crash import ledger

LEDGER = "SAMPLES_CRASH_LEDGER"  # the environment variable that tells a worker where its ledger is
STEP_SECONDS = 0.04
PAUSE_SECONDS = 0.03


@durable.activity
async def step(number: int, token: str) -> int:
    """Write down that the call began, work a little, write down that it ended."""
    path, instance_id = Path(os.environ[LEDGER]), durable.activity_info().instance_id
    ledger.write(path, "begun", instance_id, number, token)
    await asyncio.sleep(
        STEP_SECONDS * random.uniform(0.5, 1.5)
    )  # so that a kill meets each workflow elsewhere
    ledger.write(path, "ended", instance_id, number, token)
    return number * number


@durable.workflow
async def climb(steps: int) -> int:
    """The sum of the squares from 1 to ``steps``, in ``steps`` activities."""
    token = str(durable.uuid4())  # the same in every process that goes on with this run
    height = 0
    for number in range(1, steps + 1):
        height += await step(number, token)
        await asyncio.sleep(PAUSE_SECONDS)
    return height


def height(steps: int) -> int:
    """What `climb` must give."""
    return sum(number * number for number in range(1, steps + 1))
