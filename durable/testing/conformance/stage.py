"""The stage on which real workers carry the kit's workflows on a store: clients, workers, and a look at what is left.

The store's clock runs by itself here, since workers live in real time, and can be pushed on as well.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any, TypeVar

import durable
from durable.backends.contract import Backend
from durable.backends.records import Filter, InstanceView
from durable.client.client import Client
from durable.core.payload import MAX_PAYLOAD_BYTES, Converter, PlainCodec
from durable.errors import BackendError
from durable.testing.conformance import programs
from durable.testing.conformance.clock import HOUR, SECOND, ManualClock
from durable.testing.conformance.harness import StoreUnderTest
from durable.testing.replayer import replay

R = TypeVar("R")
PATIENCE_SECONDS = 10.0
POLL_SECONDS = 0.5
Definition = durable.Workflow[..., Any] | durable.Activity[..., Any]


class RunningClock(ManualClock):
    """A clock that goes on by itself, and further when a test says so."""

    def __init__(self) -> None:
        super().__init__()
        self._began_ns = time.monotonic_ns()

    def __call__(self) -> int:
        return self.now_us + (time.monotonic_ns() - self._began_ns) // 1000


class Stage:
    """A store with clients and workers. ``key`` is a prefix that no other law uses."""

    def __init__(self, under_test: StoreUnderTest, *, local_activities: bool = True) -> None:
        self.under_test = under_test
        self.local_activities = local_activities
        self.key = secrets.token_hex(6)
        self._stores: list[Backend] = []
        self._clients: list[Client] = []
        self._stack = AsyncExitStack()
        self.is_damaged = False
        self._code = {workflow.definition.name: workflow for workflow in programs.CODE_NOW}
        if under_test.clock is not None:
            under_test.clock = RunningClock()

    # --- connections and workers

    async def connect(
        self, wrap: Callable[[Any], Any] = lambda store: store, *, poll_seconds: float = POLL_SECONDS
    ) -> Client:
        """A client; a second one has a connection of its own, if the store keeps data. ``wrap`` puts a layer over."""
        if not self._stores or self.under_test.keeps_data:
            self._stores.append(await self.under_test.open())
        store = self._stores[-1]
        client = Client(
            wrap(store), Converter(codec=PlainCodec(), max_payload_bytes=MAX_PAYLOAD_BYTES), poll_seconds
        )
        self._clients.append(client)
        client.clock.hear((await store.migrate()).now_us)
        return client

    @property
    def client(self) -> Client:
        """The first one."""
        return self._clients[0]

    @asynccontextmanager
    async def worker(
        self,
        client: Client | None = None,
        *,
        more: Iterable[Definition] = (),
        worker: Callable[..., durable.Worker] = durable.Worker,
        **options: Any,
    ) -> AsyncIterator[durable.Worker]:
        """A worker with the kit's definitions and ``more``. ``worker`` makes it."""
        options = {"shutdown_timeout": 2.0, "local_activities": self.local_activities, **options}
        async with worker(client or self.client, [*programs.ALL, *more], **options) as working:
            yield working

    async def close(self) -> None:
        """Close everything; the stores last."""
        for client in self._clients:
            with suppress(BackendError):
                await client.waiting.close()
        for store in self._stores:
            await store.close()

    # --- instances

    async def start(
        self, workflow: Callable[..., Awaitable[R]], *args: Any, name: str = "", **keywords: Any
    ) -> durable.Instance[R]:
        """A new instance, with an id of this law."""
        given: Any = workflow
        id = f"{self.key}-{name or given.definition.name}"
        instance: durable.Instance[R] = await self.client.create_instance(given, *args, id=id, **keywords)
        return instance

    async def result(self, instance: durable.Instance[R]) -> R:
        """What it returns, within a law's patience."""
        return await instance.result(timeout=PATIENCE_SECONDS)

    async def run(self, workflow: Callable[..., Awaitable[R]], *args: Any, **keywords: Any) -> R:
        """Start it and give its result."""
        return await self.result(await self.start(workflow, *args, **keywords))

    async def reaches(
        self, instance: durable.Instance[Any], *, status: str | None = None, state: str | None = None
    ) -> durable.Description:
        """Wait until it has this status or state."""

        async def there() -> durable.Description | None:
            found = await instance.describe()
            return found if (status, state) in ((found.status, None), (None, found.state)) else None

        return await self.eventually(there)

    async def eventually(self, look: Callable[[], Awaitable[R | None]]) -> R:
        """Look again and again, until there is something to be seen."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not (found := await look()):  # noqa: ASYNC110  (what it looks at is in a store)
                await asyncio.sleep(0.005)
        return found

    async def opened(self, key: str) -> None:
        """Wait until somebody opens this gate."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            await programs.gate(key).wait()

    # --- time

    @property
    def long_seconds(self) -> float:
        """A time that a law lets pass: an hour where the clock can be moved, else as little as will do."""
        return HOUR / SECOND if self.under_test.clock is not None else 0.3

    async def advance(self, seconds: float) -> None:
        """Let this time pass, and have everybody look again."""
        await self.under_test.advance(round(seconds * SECOND))
        now_us = (await self._stores[0].get([])).now_us
        for client in self._clients:
            client.clock.hear(now_us)
            client.store.bell.ring("workflow", "activity")

    async def begin_a_second(self) -> None:
        """Let time pass until a second has just begun, where the clock can be moved."""
        if self.under_test.clock is not None:
            await self.advance(1 - self.under_test.clock() % SECOND / SECOND)

    # --- what is left

    async def damage(self, kind: str, instance: durable.Instance[Any]) -> None:
        """Break something by hand; see `StoreUnderTest.damage`."""
        await self.under_test.wound(self._stores[0], kind, instance.id)

    async def check(self) -> None:
        """The store is sound, nothing is stalled, and every run that there is follows its own history."""
        store = self._stores[0]
        findings = [] if self.is_damaged else await self.client.audit()
        assert not findings, findings
        for view in (await store.find(Filter(limit=10_000))).items:
            assert view.problem is None, view.problem
            await self.replays(view)

    def knows(self, *workflows: durable.Workflow[..., Any]) -> None:
        """Workflows of a law's own, whose runs are to be replayed as well."""
        self._code |= {workflow.definition.name: workflow for workflow in workflows}

    async def replays(self, view: InstanceView) -> None:
        """This run follows its own history, as far as it has come."""
        text = await self.client.export_history(view.instance_id, view.run_id)
        replay(self._code[view.workflow], text)
