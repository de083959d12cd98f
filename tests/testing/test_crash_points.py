"""The workflows whose histories are kept, with a crash at every point: one for each sort of event."""

from __future__ import annotations

import math
from typing import Any

import pytest

import durable
from durable.client.instance import Instance
from durable.testing import Environment, crash_everywhere
from tests.histories.v0_1_0 import (
    ALL,
    cleaning_up,
    double,
    endless,
    failing,
    family,
    patched,
    racing,
    refuse,
    running_on,
    sequence,
    stage,
    talking,
    together,
)


async def talk(env: Environment, instance: Instance[Any]) -> None:
    env.signal_at(5, instance, stage, "one")
    env.at(7, lambda: instance.update("say", "two", key="once"))


async def cancel(env: Environment, instance: Instance[Any]) -> None:
    env.at(10, lambda: instance.cancel("enough"))


@pytest.mark.parametrize(
    ("workflow", "args", "drive"),
    [
        (sequence, (2,), None),
        (together, (2,), None),
        (failing, (), None),
        (talking, (), talk),
        (family, (), None),
        (running_on, (1,), None),
        (patched, (), None),
        (cleaning_up, (), cancel),
        (racing, (), None),
    ],
    ids=lambda given: given.definition.name if isinstance(given, durable.Workflow) else "",
)
async def test_a_crash_at_any_point_changes_nothing(workflow: Any, args: Any, drive: Any) -> None:
    found = await crash_everywhere(
        workflow,
        *args,
        activities=[double, refuse],
        workflows=[one for one in ALL if one is not workflow],
        setup=lambda env: env.mock(endless, takes=math.inf),
        drive=drive,
    )
    assert found.runs == len(found.points) + 1 > 5
