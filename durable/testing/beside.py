"""Beside any loop: runs are driven from plain code; where a loop runs already, a thread of its own is plain enough."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def beside_any_loop(call: Callable[[], T]) -> T:
    """What ``call()`` gives, called where no loop runs. Blocks meanwhile."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return call()
    with ThreadPoolExecutor(1, thread_name_prefix="durable-replay") as threads:
        return threads.submit(call).result()
