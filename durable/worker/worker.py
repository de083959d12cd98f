"""The worker: takes tasks that it has the code for, runs them, and drains when it is told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import signal
import socket
from collections.abc import Iterable
from datetime import timedelta
from types import ModuleType, TracebackType
from typing import TYPE_CHECKING, Any, Self

from durable.core import guards
from durable.core.failure import known_exceptions
from durable.core.registry import Registry
from durable.core.retry import seconds
from durable.primitives.activity import Activity
from durable.primitives.workflow import Workflow
from durable.worker.activity_tasks import ActivityTasks
from durable.worker.births import Births
from durable.worker.claims import Claims
from durable.worker.leases import Leases
from durable.worker.local_activities import LocalActivities
from durable.worker.parts import Parts
from durable.worker.processes import Processes, check
from durable.worker.questions import Questions
from durable.worker.upkeep import Upkeep
from durable.worker.workflow_tasks import WorkflowTasks

if TYPE_CHECKING:
    from durable.client import Client

GIVING_BACK_SECONDS = 1.0
"""What remains, even when `shutdown_timeout` is over, to write what ended and to give back what did not."""
_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Worker:
    """Runs workflows and activities: ``async with Worker(client, [checkout, charge]):`` or ``await worker.run()``.

    ``definitions`` are decorated functions, bound method activities, or modules to scan for them. ``queues`` are those
    that it serves. At most ``max_activities`` attempts and ``max_workflow_tasks`` workflow tasks run at a time;
    ``cache_size`` runs are kept warm (0: every task replays its history). ``lease`` (seconds) is how long others wait
    before they take over the work of a worker that died; closing waits up to ``shutdown_timeout`` (seconds) for
    running activities. ``name`` is for people, ``build`` tells this code from other code (default: a hash of each
    workflow's source). ``local_activities``: activities of this worker's own workflows that are over in a moment are
    written down together with their result, without a row of their own in between, and what its own client starts is
    begun without a claim; ``False`` gives each a row and claims each.

    Raises ``TypeError`` for what is no definition, ``ValueError`` for two definitions of one name or a number that
    makes no sense.
    """

    def __init__(
        self,
        client: Client,
        # Not of a narrower type: a checker infers `list[object]` for [charge, weigh] and for [checkout, charge].
        definitions: Iterable[object],
        *,
        queues: Iterable[str] = ("default",),
        max_activities: int = 100,
        max_workflow_tasks: int = 100,
        cache_size: int = 1000,
        lease: float | timedelta = 15.0,
        shutdown_timeout: float | timedelta = 30.0,
        name: str | None = None,
        build: str | None = None,
        local_activities: bool = True,
    ) -> None:
        self.registry = _registry_of(definitions)
        self.name = name or f"{socket.gethostname()}-{os.getpid()}"
        self._client = client
        self._queues = _queues_of(queues)
        self._max_activities = _at_least("max_activities", max_activities, 1)
        self._max_workflow_tasks = _at_least("max_workflow_tasks", max_workflow_tasks, 1)
        self._cache_size = _at_least("cache_size", cache_size, 0)
        self._lease_seconds = _positive("lease", lease)
        self._shutdown_seconds = seconds(shutdown_timeout, "shutdown_timeout") or 0.0
        self._build = build
        self._local_activities = local_activities
        self._parts: Parts | None = None
        self._claimers: list[asyncio.Task[None]] = []
        self._renewer: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<worker {self.name!r}>"

    async def run(self) -> None:
        """Work until SIGINT or SIGTERM, then drain. A second signal gives up on running activities at once."""
        loop = asyncio.get_running_loop()
        stop = asyncio.Event()
        hurry = asyncio.Event()

        def stopped() -> None:
            (hurry if stop.is_set() else stop).set()

        with _signals(loop, stopped):
            await self._start()
            try:
                await stop.wait()
            finally:
                await self._close(hurry)

    async def __aenter__(self) -> Self:
        await self._start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._close(asyncio.Event())

    async def _start(self) -> None:
        if self._parts is not None:
            raise RuntimeError(
                f"{self!r} runs already: use either `async with worker` or `await worker.run()`, once"
            )
        guards.install()
        client = self._client
        self._parts = parts = Parts(
            client=client,
            store=client.store,
            clock=client.clock,
            converter=client.converter,
            registry=self.registry,
            known=known_exceptions(),
            worker_id=f"{self.name}/{secrets.token_hex(8)}",
            queues=self._queues,
            lease_us=round(self._lease_seconds * 1e6),
            build=self._build,
            propagation=client.propagation,
            hooks=client.hooks,
        )
        parts.workflow_tasks = WorkflowTasks(parts, self._cache_size)
        parts.activities = ActivityTasks(parts, self._max_activities)
        parts.leases = Leases(parts)
        parts.local = LocalActivities(parts, on=self._local_activities)
        parts.processes = Processes(parts.converter, parts.known)
        upkeep = Upkeep(parts)
        parts.claims = claims = Claims(
            parts, upkeep, max_workflow_tasks=self._max_workflow_tasks, poll_seconds=client.poll_seconds
        )
        self._questions = Questions(parts, client.poll_seconds)
        self._births = Births(parts, self._max_workflow_tasks)
        if self._local_activities:
            client.nearby.append(self._births)
        loop = asyncio.get_running_loop()
        self._renewer = loop.create_task(parts.leases.run(), name=f"{self.name} leases")
        self._claimers = [
            loop.create_task(work, name=f"{self.name} {what}")
            for what, work in (
                ("workflow claims", claims.claim_workflow_tasks()),
                ("activity claims", claims.claim_activity_tasks()),
                ("stalled", upkeep.try_stalled()),
                ("audit", upkeep.look_over()),
                ("questions", self._questions.run()),
            )
        ]

    async def _close(self, hurry: asyncio.Event) -> None:
        """Claim nothing more, let what runs finish, give back the rest. Bounded by ``shutdown_timeout``."""
        parts = self._parts
        if parts is None:
            return
        parts.draining = True
        if self._births in self._client.nearby:
            self._client.nearby.remove(self._births)
        clock = asyncio.get_running_loop().time
        ends = clock() + self._shutdown_seconds
        await _cancelled(self._claimers, max(GIVING_BACK_SECONDS, self._shutdown_seconds))
        parts.claims.close()
        self._questions.close()
        while True:
            await self._drain(parts, hurry, max(0.0, ends - clock()))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(GIVING_BACK_SECONDS, ends - clock())):
                    await parts.workflow_tasks.idle()
                    await parts.written()
            # A checkpoint that was on its way may have begun activities, and they may have ended since.
            at_rest = not parts.activities.abandoned() and parts.workflow_tasks.working == 0
            if at_rest or hurry.is_set() or clock() >= ends:
                break
        parts.release(parts.leases.held())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(GIVING_BACK_SECONDS, ends - clock())):
                await parts.written()
        if self._renewer is not None:
            await _cancelled([self._renewer], GIVING_BACK_SECONDS)
        parts.local.close()
        for warm in parts.workflow_tasks.cache:
            parts.local.drop(warm)
            parts.workflow_tasks.cache.evict(warm.run_id)
        await parts.processes.close()
        parts.watchdog.close()
        self._parts = None

    async def _drain(self, parts: Parts, hurry: asyncio.Event, seconds: float) -> None:
        draining = asyncio.ensure_future(parts.activities.drain(seconds))
        hurried = asyncio.ensure_future(hurry.wait())
        await asyncio.wait([draining, hurried], return_when=asyncio.FIRST_COMPLETED)
        if not draining.done():
            draining.cancel()
            await asyncio.wait([draining])
            await parts.activities.drain(0)
        hurried.cancel()


def _registry_of(definitions: Iterable[Any]) -> Registry:
    registry = Registry()
    if isinstance(definitions, Activity | Workflow | ModuleType):
        raise TypeError(
            "Worker(client, definitions): definitions is a list of decorated functions and modules"
        )
    for definition in definitions:
        for one in _scanned(definition) if isinstance(definition, ModuleType) else (definition,):
            _register(registry, one)
    return registry


def _register(registry: Registry, definition: Any) -> None:
    if isinstance(definition, Activity):
        check(definition.definition)
        registry.add_activity(definition.definition)
    elif isinstance(definition, Workflow):
        registry.add_workflow(definition.definition)
    else:
        raise TypeError(
            "a worker takes functions decorated with @durable.workflow or @durable.activity, or modules, "
            f"not {definition!r}"
        )


def _scanned(module: ModuleType) -> list[Any]:
    found = [value for value in vars(module).values() if isinstance(value, Activity | Workflow)]
    if not found:
        raise TypeError(f"module {module.__name__!r} holds no workflow and no activity")
    return found


def _queues_of(queues: Iterable[str]) -> tuple[str, ...]:
    if isinstance(queues, str):
        raise TypeError(f"queues is a list of names: queues=[{queues!r}]")
    found = tuple(dict.fromkeys(queues))
    if not found or not all(isinstance(queue, str) and queue for queue in found):
        raise ValueError("queues holds at least one name, and no empty one")
    return found


def _at_least(what: str, value: int, least: int) -> int:
    if not isinstance(value, int) or value < least:
        raise ValueError(f"{what} is a whole number of at least {least}, not {value!r}")
    return value


def _positive(what: str, value: float | timedelta) -> float:
    found = seconds(value, what)
    if not found:
        raise ValueError(f"{what} is a time longer than nothing, not {value!r}")
    return found


async def _cancelled(tasks: Iterable[asyncio.Task[None]], seconds: float) -> None:
    """Cancel the tasks, and wait for them, but no longer than this."""
    tasks = list(tasks)
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks, timeout=seconds)


@contextlib.contextmanager
def _signals(loop: asyncio.AbstractEventLoop, stopped: Any) -> Any:
    """Call ``stopped`` for SIGINT and SIGTERM, where signals can be had (not in other threads)."""
    installed = []
    for number in _STOP_SIGNALS:
        with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):
            loop.add_signal_handler(number, stopped)
            installed.append(number)
    try:
        yield
    finally:
        for number in installed:
            loop.remove_signal_handler(number)
