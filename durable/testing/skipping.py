"""Skipping time: when nothing can run, the clock goes to the next moment at which something can.

"Nothing can run" is not guessed from silence. The worker is asked: its bell is rung, both of its claims must look and
find nothing, no attempt of an activity may be running or just have ended, and for a few passes of the loop nothing
happens in the store.
An engine whose hops between two calls of the store took more passes than that would be skipped over; they take four
at most.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable
from datetime import timedelta

from durable.backends.wakeup import Bell
from durable.testing.stuck import Reports, Stuck
from durable.testing.virtual_time import Alarms, VirtualClock
from durable.testing.waiters import Waiter, Waiters
from durable.testing.watched import Stirring, Watched

PASSES = 20
MOST_ROUNDS = 50_000
"""So often may something happen at one moment, before that is taken for a mistake of the engine or a spinning test."""
FAR_US = 200 * 365 * 24 * 3600 * 1_000_000
"""What is due later than this is no timer of anybody, but the end of a lease that is never to end."""


class Skipper:
    """Moves the clock: for those who wait (`run`), and when it is told to (`advance`)."""

    def __init__(
        self,
        *,
        clock: VirtualClock,
        store: Watched,
        bell: Bell,
        stirring: Stirring,
        attempts: Callable[[], Iterable[asyncio.Task[None]]],
        reports: Reports,
        patience_seconds: float,
        longest: timedelta,
    ) -> None:
        self.waiters = Waiters()
        self.alarms = Alarms()
        self._clock = clock
        self._store = store
        self._bell = bell
        self._stirring = stirring
        self._attempts = attempts
        self._reports = reports
        self._patience_seconds = patience_seconds
        self._longest = longest
        self._turn = asyncio.Lock()
        self._dozing: set[asyncio.Task[object] | None] = set()
        self._called: set[asyncio.Task[None]] = set()
        self.failures: list[BaseException] = []
        self.learned = False
        """The worker was given definitions: what it asks for with its next claim was fixed before."""

    # --- time goes on -----------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Until cancelled: whenever somebody waits and nothing can run, on to what is due next."""
        while True:
            await self.waiters.somebody.wait()
            try:
                async with self._turn:
                    await self._skip_once()
            except Exception as error:
                for waiter in self.waiters:
                    waiter.fail(error)
                await asyncio.sleep(0)

    async def advance(self, to_us: int) -> None:
        """Go to this time, with everything that is due on the way; afterwards nothing can run."""
        async with self._turn:
            await self.idle()
            while (due_us := self._next_us()) is not None and due_us <= to_us:
                self._move(due_us)
                await self.idle()
            self._clock.move_to(to_us)
            await self.idle()
        self.raise_failures()

    async def doze(self, seconds: float) -> None:
        """Let virtual time pass in a task that is an attempt: it does not count as running meanwhile."""
        task = asyncio.current_task()
        over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if seconds != float("inf"):
            self.alarms.set(self._clock.now_us() + round(seconds * 1e6), lambda: self._wake(task, over))
        self._dozing.add(task)
        self._stirring.stir()
        try:
            await over
        finally:
            self._dozing.discard(task)

    def _wake(self, task: asyncio.Task[object] | None, over: asyncio.Future[None]) -> None:
        self._dozing.discard(task)
        if not over.done():
            over.set_result(None)

    def call(self, task: asyncio.Task[None]) -> None:
        """Time waits for this task of the test's own; what it raises is the test's failure."""
        self._called.add(task)
        task.add_done_callback(self._returned)

    def _returned(self, task: asyncio.Task[None]) -> None:
        self._called.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            if not self.waiters:
                self.failures.append(error)
            for waiter in self.waiters:
                waiter.fail(error)
        self._stirring.stir()

    async def _skip_once(self) -> None:
        await self.idle()
        if not self.waiters:
            return
        await self._fail_stalled()
        due_us = self._next_us()
        if due_us is None or not any(waiter.skips for waiter in self.waiters):
            await self._give_up()
            return
        for waiter in self.waiters:
            if due_us - waiter.since_us > self._longest / timedelta(microseconds=1):
                waiter.fail(Stuck(await self._told(waiter, f"has not ended after {self._longest.days} days")))
        if any(waiter.skips and not waiter.failed.done() for waiter in self.waiters):
            self._move(due_us)

    def _move(self, to_us: int) -> None:
        if to_us <= self._clock.now_us() and not self.alarms.next_us:
            raise RuntimeError(
                "something is due, but no worker takes it: this is a mistake of the environment"
            )
        self._clock.move_to(to_us)
        self.alarms.ring(self._clock.now_us())

    def _next_us(self) -> int | None:
        far_us = self._clock.now_us() + FAR_US
        due = [*self._store.wakes.values(), self.alarms.next_us]
        return min((at_us for at_us in due if at_us is not None and at_us < far_us), default=None)

    @property
    def happened(self) -> int:
        """How much has happened in the store so far."""
        return self._store.happened

    @property
    def works(self) -> bool:
        """Whether an attempt runs, or a call of `at`."""
        return bool(self._running())

    # --- nothing can run --------------------------------------------------------------------------------------------

    async def idle(self) -> None:
        """Until nothing can run, the attempts of activities and the calls of `at` included."""
        while True:
            await self.settle()
            running = self._running()
            if not running:
                return
            await asyncio.wait([*running, self._stirring.next()], return_when=asyncio.FIRST_COMPLETED)

    def _running(self) -> list[asyncio.Task[None]]:
        attempts = [task for task in self._attempts() if task not in self._dozing and not task.done()]
        return attempts + [task for task in self._called if not self._waits(task)]

    def _waits(self, task: asyncio.Task[None]) -> bool:
        return any(waiter.task is task for waiter in self.waiters)

    async def settle(self) -> None:
        """Until all that can be done at this time is done, but for attempts that run."""
        for _ in range(MOST_ROUNDS):
            happened = self._store.happened
            await self._have_all_look()
            if self.learned:
                self.learned = False
                await self._have_all_look()
            if await self._is_quiet() and self._store.happened == happened:
                return
        raise Stuck(f"at {self._clock.now.isoformat()} the worker is never done; time cannot go on")

    async def _have_all_look(self) -> None:
        before = dict(self._store.looks)
        # Who waits for an end or an answer looks as well: it must not learn of it after time went on.
        self._bell.ring("workflow", "activity", "closed", "reply")
        while any(self._store.looks[claim] <= before.get(claim, 0) for claim in self._store.claims):
            await self._stirring.next()

    async def _is_quiet(self) -> bool:
        """For some passes. What an attempt gave that ended in one of them is on its way, and not yet in the store."""
        happened, running = self._store.happened, self._running()
        for _ in range(PASSES):
            await asyncio.sleep(0)
            if self._store.happened != happened or self._running() != running:
                return False
        return True

    # --- nothing ever will ------------------------------------------------------------------------------------------

    async def _give_up(self) -> None:
        """Those who wait are told so; before, what is outside of virtual time gets some real time to do something."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._patience_seconds):
                await self._stirring.next()
                return
        for waiter in self.waiters:
            left = "nothing can run, and no timer is left"
            if not waiter.skips:
                left = "nothing can run, and time does not go on for a question"
            waiter.fail(Stuck(await self._told(waiter, f"waits for ever: {left}")))
        await asyncio.sleep(0)

    async def _fail_stalled(self) -> None:
        for waiter in self.waiters:
            view = await self._reports.view(waiter.ref)
            if view is not None and view.state == "stalled":
                waiter.fail(Stuck(await self._told(waiter, "is stalled")))

    async def _told(self, waiter: Waiter, how: str) -> str:
        return f"{waiter.what} {how}\n{await self._reports.why(waiter.ref)}"

    def close(self) -> None:
        """The test is over: its calls are dropped."""
        for task in self._called:
            task.cancel()

    def raise_failures(self) -> None:
        """Raise what a call of `at` raised while nobody waited."""
        if self.failures:
            raise self.failures.pop(0)
