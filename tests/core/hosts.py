"""A run reduced to what its loop asks of it, for tests of the loop alone."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from durable.core.loop import WorkflowLoop
from durable.core.watchdog import Watchdog

T = TypeVar("T")

START_US = 1_700_000_000_000_000


class Host:
    """Counts commands, remembers timers, and drives its loop."""

    def __init__(self, run_id: str = "run", watchdog: Watchdog | None = None) -> None:
        self.commands = 0
        self.timers: dict[int, int] = {}
        self.cancelled: list[int] = []
        self.closed: BaseException | None = None
        self.stream = random.Random(run_id)
        self.waiting: dict[str, asyncio.Future[Any]] = {}
        self.loop = WorkflowLoop(run_id=run_id, start_us=START_US, host=self, watchdog=watchdog)
        self.main: asyncio.Task[Any] | None = None

    # what the loop asks for

    def start_timer(self, due_us: int) -> int:
        self.commands += 1
        self.timers[self.commands] = due_us
        return self.commands

    def cancel_timer(self, number: int) -> None:
        del self.timers[number]
        self.cancelled.append(number)

    def issued(self) -> int:
        return self.commands

    def check_open(self) -> None:
        if self.closed is not None:
            raise self.closed

    def random(self) -> random.Random:
        return self.stream

    # what workflow code asks for

    async def call(self, name: str) -> Any:
        """A command whose answer the test gives with `answer`."""
        future = self.waiting[name] = asyncio.get_running_loop().create_future()
        self.commands += 1
        return await future

    # what tests do

    def start(self, main: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        def begin() -> None:
            self.main = self.loop.create_task(main)

        self.loop.step(begin)
        assert self.main is not None
        return self.main

    def do(self, *actions: Callable[[], object]) -> None:
        self.loop.step(lambda: [action() for action in actions] and None)

    def answer(self, name: str, value: Any = None) -> None:
        future = self.waiting.pop(name)
        self.do(lambda: None if future.done() else future.set_result(value))

    def fire(self) -> int:
        """The timer that is due first fires, in a step of its own. Gives its number."""
        due, number = min((due, number) for number, due in self.timers.items())
        del self.timers[number]
        self.loop.now_us = max(self.loop.now_us, due)
        self.do(lambda: self.loop.fire(number))
        return number

    def finish(self) -> Any:
        """Fire timers until the main task is done; its result."""
        assert self.main is not None
        while not self.main.done():
            self.fire()
        return self.main.result()


def run(main: Callable[[Host], Coroutine[Any, Any, T]], run_id: str = "run") -> T:
    """Run a workflow function to its end, over all of its timers; its result."""
    host = Host(run_id)
    try:
        host.start(main(host))
        return host.finish()
    finally:
        host.loop.drop()
