"""Workflow laws: workers and people at once, in no order; what must hold in any order is judged at the end.

`durable.testing.conformance.crowds` does the same with the store's calls. Here real workers carry real workflows. One
of them keeps nothing warm, one is closed and begun again, one dies and is replaced, while people pause, signal (each
signal twice), update, cancel, terminate, look and audit.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from random import Random
from typing import Any, TypeVar

import pytest

import durable
from durable.backends.records import InstanceRef
from durable.client.client import Client
from durable.testing.conformance import unruly
from durable.testing.conformance.stage import Stage
from durable.testing.conformance.troubled import Cable
from durable.testing.conformance.workflow_laws import CarriesWorkflows
from durable.testing.mortal_worker import Mortal, MortalWorker

W = TypeVar("W", bound=durable.Worker)
LEASE_SECONDS = 0.8
PATIENCE_SECONDS = 40.0
"""Of the whole law. Much, since nothing but a machine that stands still may use it up."""
POLL_SECONDS = 0.1
SIGNALS = 6
EACH = 3
"""Instances of each kind."""
LIVES = 4
"""Of workers that die."""


class CommotionLaws(CarriesWorkflows):
    """Nothing is lost, and nothing is done twice that nobody's loss explains."""

    @pytest.mark.parametrize("seed", range(2))
    async def test_workers_and_people_at_once(self, stage: Stage, seed: int) -> None:
        commotion = Commotion(stage, Random(seed))
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                await commotion.run()
            await commotion.check()
        finally:
            unruly.forget()


class Commotion:
    """The workers, the people, and what they know of what they did."""

    def __init__(self, stage: Stage, random: Random) -> None:
        self._stage = stage
        self._random = random
        self._right: dict[str, Callable[[Any], bool]] = {}
        self._instances: dict[str, durable.Instance[Any]] = {}
        self._cancelled: set[str] = set()
        self._terminated: set[str] = set()
        self._sent_to: set[str] = set()
        self._troubled: set[Any] = set()
        """The clients of workers that died or were cut off."""
        self._slowest_seconds = 0.0
        self._renewing: dict[Any, float] = {}
        self._over = False
        self._clients: list[Client] = []
        self._mortal: dict[Client, Mortal] = {}
        stage.knows(*unruly.WORKFLOWS)

    # --- the whole

    async def run(self) -> None:
        """Until all instances have ended."""
        async with AsyncExitStack() as stack:
            self._clients = [self._stage.client, await stack.enter_async_context(self._connected())]
            cold = await stack.enter_async_context(self._connected())
            await stack.enter_async_context(self._worker(cold, cache_size=0))
            around = [self._closes_and_begins(), self._dies(), self._pauses(), self._audits(), self._looks()]
            async with asyncio.TaskGroup() as others:
                for work in (*around, self._feels_the_pulse()):
                    others.create_task(work)
                try:
                    await self._everybody()
                finally:
                    self._over = True

    async def _everybody(self) -> None:
        await self._begin()
        names = list(self._instances)
        self._random.shuffle(names)
        ledgers = [name for name in names if "ledger" in name]
        async with asyncio.TaskGroup() as people:
            for name in names:
                if "listens" in name or "continues" in name:
                    people.create_task(self._signals(name))
            for name in ledgers:
                people.create_task(self._updates(name))
            # Once each: a second one would cancel the cleaning up as well.
            tidies = [name for name in names if "tidies" in name]
            others = [name for name in names if name not in tidies]
            people.create_task(self._cancels(tidies + others[:2]))
            people.create_task(self._terminates(others[2:4]))
        for instance in self._instances.values():
            with suppress(durable.WorkflowFailed, durable.WorkflowCancelled, durable.WorkflowTerminated):
                await instance.result()
        await self._ends_children()

    # --- instances

    async def _begin(self) -> None:
        """Of each kind some, in any order, each with what its result is to be."""
        numbers = range(SIGNALS)
        kinds: list[tuple[Any, tuple[Any, ...], Callable[[Any], bool]]] = [
            (unruly.in_sequence, (4,), lambda found: found == [0, 1, 2, 3]),
            (unruly.in_parallel, (5,), lambda found: found == [0, 1, 2, 3, 4]),
            (unruly.family, (2,), lambda found: found == 2),
            (unruly.listens, (SIGNALS,), lambda found: found == [*numbers]),
            (unruly.continues, ([], SIGNALS), lambda found: found == [*numbers]),
            (unruly.ledger, (), lambda found: sorted(found) == [*numbers]),
            (unruly.races, (0.05, self._random.choice((0.01, 0.3))), lambda found: found in ("done", "late")),
            (
                unruly.charged,
                (2,),
                lambda found: all(a in (b, "lost") for a, b in zip(found, (0, 1), strict=True)),
            ),
            (unruly.retried, (2,), lambda found: found == 3),
            (unruly.tidies, (), lambda _: False),
            (unruly.saga, (3,), lambda found: found == [2, 1, 0]),
        ]
        wanted = [(number, *kind) for number in range(EACH) for kind in kinds]
        self._random.shuffle(wanted)
        for number, workflow, args, right in wanted:
            await asyncio.sleep(0.04 * self._random.random())
            name = f"{workflow.definition.name}-{number}"
            self._instances[name] = await self._somebody().create_instance(
                workflow, *args, id=f"{self._stage.key}-{name}"
            )
            self._right[name] = right

    def _somebody(self) -> Client:
        return self._random.choice(self._clients)

    def _handle(self, name: str) -> durable.Instance[Any]:
        """Of this instance, by anybody's connection."""
        return self._somebody().get_instance(f"{self._stage.key}-{name}")

    # --- workers

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[Client]:
        made: list[Mortal] = []

        def mortal(store: Any) -> Cable:
            made.append(Mortal(store, self._passes))
            return Cable(made[-1])

        client = await self._stage.connect(mortal, poll_seconds=POLL_SECONDS)
        self._mortal[client] = made[0]
        try:
            yield client
        finally:
            made[0].close()

    async def _passes(self, name: str, when: str, said: Any) -> None:
        """Each call takes as many turns as chance will have. How long the renewals take is noted."""
        for _ in range(self._random.randrange(4)):
            await asyncio.sleep(0)
        if name == "extend":
            task = asyncio.current_task()
            if when == "before":
                self._renewing[task] = time.monotonic()
            else:
                self._slept(time.monotonic() - self._renewing.pop(task))

    def _worker(self, client: Client, *, cache_size: int = 1000) -> durable.Worker:
        return self._made(durable.Worker, client, cache_size)

    def _made(self, kind: type[W], client: Client, cache_size: int) -> W:
        return kind(
            client,
            unruly.ALL,
            lease=LEASE_SECONDS,
            shutdown_timeout=PATIENCE_SECONDS / 2,
            cache_size=cache_size,
            local_activities=self._stage.local_activities,
        )

    async def _closes_and_begins(self) -> None:
        """Gracefully: nothing of it may be begun again. People use its connection, too."""
        client = self._clients[1]
        while not self._over:
            async with self._worker(client):
                await self._while(0.1 + 0.3 * self._random.random())
            await asyncio.sleep(0.05 * self._random.random())

    async def _dies(self) -> None:
        """Or is cut off for longer than its lease and comes back; and another begins. The last one stays to the end."""
        for _ in range(LIVES):
            async with self._connected() as client:
                await self._random.choice((self._one_life, self._one_absence))(client)
        async with self._connected() as client, self._worker(client):
            await self._while(PATIENCE_SECONDS)

    async def _one_life(self, client: Client) -> None:
        worker = self._made(MortalWorker, client, 1000)
        await worker.__aenter__()
        await self._while(0.05 + 0.25 * self._random.random())
        self._troubled.add(client)
        self._mortal[client].dead = True
        worker.die()
        await worker.bury()

    async def _one_absence(self, client: Client) -> None:
        cable = client.store
        assert isinstance(cable, Cable)
        async with self._worker(client):
            await self._while(0.05 + 0.25 * self._random.random())
            self._troubled.add(client)
            cable.cut = True
            await self._while(1.2 * LEASE_SECONDS)
            cable.cut = False
            await self._while(0.1)

    async def _while(self, seconds: float) -> None:
        """So long, or until all is over."""
        ends = time.monotonic() + seconds
        while not self._over and time.monotonic() < ends:  # noqa: ASYNC110  (as often as this, others may work)
            await asyncio.sleep(0.01)

    async def _feels_the_pulse(self) -> None:
        """A loop or a store that stands still for long lets leases run out that nobody is to blame for."""
        while not self._over:
            before = time.monotonic()
            await self._stage.client.store.get([])
            await asyncio.sleep(0.01)
            self._slept(time.monotonic() - before)

    def _slept(self, seconds: float) -> None:
        self._slowest_seconds = max(self._slowest_seconds, seconds)

    # --- people

    async def _signals(self, name: str) -> None:
        for number in range(SIGNALS):
            with suppress(durable.InstanceFinished):
                async with asyncio.TaskGroup() as twice:
                    for _ in range(2):
                        twice.create_task(self._signal(name, number))
            await asyncio.sleep(0.02 * self._random.random())

    async def _signal(self, name: str, number: int) -> None:
        with suppress(durable.InstanceFinished):
            await self._handle(name).signal(unruly.beat, number, key=f"beat {number}")

    async def _updates(self, name: str) -> None:
        numbers = range(SIGNALS)
        async with asyncio.TaskGroup() as all_at_once:
            for number in numbers:
                for _ in range(2):
                    all_at_once.create_task(self._update(name, number))
        with suppress(durable.InstanceFinished):
            await self._handle(name).signal(unruly.over, "over", key="over")

    async def _update(self, name: str, number: int) -> None:
        await asyncio.sleep(0.1 * self._random.random())
        with suppress(durable.InstanceFinished):
            assert await self._handle(name).update("add", number, key=f"add {number}") == number
            with suppress(durable.UpdateRejected):
                await self._handle(name).update("add", -1)
                raise AssertionError(f"{name}: the validator was not asked")

    async def _cancels(self, names: Iterable[str]) -> None:
        for name in names:
            if "tidies" in name:
                await self._waits(self._handle(name))
            with suppress(durable.InstanceFinished):
                await self._handle(name).cancel("enough")
                self._cancelled.add(name)

    async def _waits(self, instance: durable.Instance[Any]) -> None:
        while (  # noqa: ASYNC110  (what it looks at is in a store)
            found := await instance.describe()
        ).status != "waiting" and found.closed_at is None:
            await asyncio.sleep(0.01)

    async def _terminates(self, names: Iterable[str]) -> None:
        for name in names:
            await asyncio.sleep(0.05 * self._random.random())
            with suppress(durable.InstanceFinished):
                await self._handle(name).terminate("at once")
                self._terminated.add(name)

    async def _pauses(self) -> None:
        """Whatever it pauses, it resumes."""
        while not self._over:
            if self._instances:
                instance = self._handle(self._random.choice([*self._instances]))
                with suppress(durable.InstanceFinished):
                    await instance.pause("wait")
                    await asyncio.sleep(0.02 * self._random.random())
                    await instance.resume()
            await asyncio.sleep(0.005)

    async def _audits(self) -> None:
        while not self._over:
            found = await self._somebody().audit()
            assert not found, found
            await asyncio.sleep(0.02)

    async def _looks(self) -> None:
        """What is shown of an instance can be read at any time, and follows its own code."""
        while not self._over:
            if self._instances:
                name = self._random.choice([*self._instances])
                await self._handle(name).describe()
                await self._somebody().list_instances(limit=50)
                ref = InstanceRef(instance_id=self._instances[name].id)
                await self._stage.replays(await self._stage.client.view(ref))
                await self._asks()
            await asyncio.sleep(0.01)

    async def _asks(self) -> None:
        ledgers = [name for name in self._instances if "ledger" in name]
        if ledgers:
            with suppress(TimeoutError, durable.QueryFailed):  # before its first step it has no query
                size = await self._handle(self._random.choice(ledgers)).query("size", timeout=5)
                assert 0 <= size <= SIGNALS

    async def _ends_children(self) -> None:
        """Those that were abandoned are told to end; the others were closed with their parents, or are about to be."""
        for name in [name for name in self._instances if "family" in name]:
            for policy in ("terminate", "cancel", "abandon", "awaited"):
                child = self._handle(f"{name}-{policy}")
                with suppress(durable.InstanceNotFound, durable.InstanceFinished):
                    if policy == "abandon":
                        await child.signal(unruly.over, "free", key="free")
                with suppress(
                    durable.InstanceNotFound, durable.WorkflowCancelled, durable.WorkflowTerminated
                ):
                    await child.result()

    # --- what must be true

    async def check(self) -> None:
        """Of all instances, their children, and what was begun."""
        for name in self._instances:
            await self._check_end(name)
        for name in [name for name in self._instances if "family" in name]:
            await self._check_children(name)
        assert all(count == 1 for count in unruly.begun_once.values()), unruly.begun_once
        self._check_begun()
        stats = await self._stage.client.stats()
        assert not any(stats.activity_tasks.values()), stats
        assert not any(stats.workflow_tasks.values()), stats

    async def _check_end(self, name: str) -> None:
        instance = self._instances[name]
        found = await instance.describe()
        if found.state == "completed":
            result = await instance.result()
            assert self._right[name](result), f"{name}: {result}"
            assert name not in self._terminated, f"{name} was terminated, and completed"
            return
        asked = {"cancelled": self._cancelled, "terminated": self._terminated}.get(found.state, set())
        assert name in asked, f"{name}: {found}"
        if "tidies" in name and found.state == "cancelled":
            assert unruly.cleaned[instance.id], f"{name} was not cleaned up"

    async def _check_children(self, name: str) -> None:
        states = {"terminate": "terminated", "cancel": "cancelled", "abandon": "completed"}
        for policy, state in states.items():
            child = self._handle(f"{name}-{policy}")
            try:
                found = await child.describe()
            except durable.InstanceNotFound:
                assert name in self._cancelled | self._terminated, f"{name} has no child {policy!r}"
                continue
            assert found.state == state, f"{child.id}: {found}"
            if state == "cancelled" and found.status == "waiting":
                assert unruly.cleaned[child.id], f"{child.id} was not cleaned up"

    def _check_begun(self) -> None:
        if self._slowest_seconds > LEASE_SECONDS / 4:
            return
        for attempt, clients in unruly.begun.items():
            blameless = [client for client in clients[:-1] if client not in self._troubled]
            assert not blameless, f"{attempt} was begun {len(clients)} times, although nobody had died"
