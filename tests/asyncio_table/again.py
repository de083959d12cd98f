"""Replays the histories of cases that come on the standard input; prints a verdict for each.

Run by the tests in a process of its own, with another hash seed, and with a heap in which addresses are others.
"""

from __future__ import annotations

import json
import sys

from durable.testing import replay
from tests.asyncio_table import anyio_cases, asyncio_cases  # noqa: F401 - they fill the table
from tests.asyncio_table.table import cases, workflow_of
from tests.core.orders import disturb


def _verdict(index: int, history: str) -> str:
    disturb()
    try:
        replay(workflow_of(cases[index]), history, same_code=True)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "agrees"


if __name__ == "__main__":
    given: dict[str, str] = json.load(sys.stdin)
    print(json.dumps({index: _verdict(int(index), history) for index, history in given.items()}))  # noqa: T201
