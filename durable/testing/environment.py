"""`Environment`: the real engine in one process, on virtual time.

Client, worker and memory store are those of production; only the store's clock is ours. Time stands still while
anything can run, and whenever nobody waits for it; it goes on, from one due moment to the next, for whoever awaits an
instance or an update, and by `Environment.advance`.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import ModuleType, TracebackType
from typing import Any, ParamSpec, Self, TypeVar, TypeVarTuple, overload

from durable.backends.memory import MemoryStore, open_store
from durable.backends.records import Filter, HistoryRange, InstanceView
from durable.client.client import Client
from durable.client.export import history_text
from durable.client.instance import HistoryEvent, Instance
from durable.core.hooks import HookList, Hooks, Propagation
from durable.core.payload import MAX_PAYLOAD_BYTES, Codec, Converter, PlainCodec
from durable.primitives.activity import Activity
from durable.primitives.signal import Signal
from durable.primitives.workflow import Workflow
from durable.testing.finding import Definition, in_module, named_by
from durable.testing.mocks import NOTHING, Behaviour, Mock, Raisable, mocked_activity, mocked_workflow
from durable.testing.mortal_worker import MortalWorker
from durable.testing.skipping import Skipper
from durable.testing.stuck import Reports
from durable.testing.virtual_client import POLL_SECONDS, VirtualClient
from durable.testing.virtual_time import BEGINNING, VirtualClock
from durable.testing.watched import Stirring, Watched
from durable.worker.worker import Worker

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")
Ts = TypeVarTuple("Ts")
When = float | timedelta | datetime

_NEVER_SECONDS = 1000 * 365 * 24 * 3600.0
"""The length of a lease: a worker that lives in the test's own process does not die of a year that is skipped."""

_seen: list[list[Environment]] = []


@contextlib.contextmanager
def environments_of_a_test() -> Iterator[list[Environment]]:
    """A list of every environment that is opened inside of the block."""
    found: list[Environment] = []
    _seen.append(found)
    try:
        yield found
    finally:
        _seen.remove(found)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """A run that an environment has carried: its history as text, and the workflow that it followed.

    ``workflow`` is ``None`` for one that was mocked, ``codec`` what its payloads were encoded with,
    ``context`` what travelled.
    """

    instance_id: str
    run_id: str
    name: str
    text: str
    workflow: Workflow[..., Any] | None
    codec: Codec | None = None
    context: tuple[ContextVar[Any], ...] = ()


class Environment:
    """Client, worker and store for a test: ``async with Environment([checkout, charge]) as env:``.

    ``definitions`` are what a `durable.Worker` takes; without any, those that are found in the code of the workflow
    that is started. ``now`` is the time at which the environment begins (default: 2024-01-01, UTC). ``seed`` makes the
    run ids, and so the random numbers and UUIDs of workflows: the same in every run of the test. With ``cache_size=0``
    every step replays its run's whole history. ``patience`` (real seconds) is how long somebody who waits for what
    never comes is left waiting, in case that it comes from outside; ``longest`` is how much virtual time may be
    skipped for one wait. ``codec``, ``max_payload``, ``context`` and ``hooks`` are those of `durable.connect`. The
    worker serves every queue.
    """

    def __init__(
        self,
        definitions: Iterable[Definition | ModuleType] = (),
        *,
        now: datetime = BEGINNING,
        seed: object = 0,
        cache_size: int = 1000,
        patience: float = 1.0,
        longest: timedelta = timedelta(days=3660),
        codec: Codec | None = None,
        max_payload: int = MAX_PAYLOAD_BYTES,
        context: Iterable[ContextVar[Any]] = (),
        hooks: Iterable[Hooks] = (),
    ) -> None:
        self._context = tuple(context)
        self._propagation = Propagation(self._context)
        self._hooks = HookList(hooks)
        self._definitions: list[Definition] = []
        self._finds = True
        self._clock = VirtualClock(now)
        self._seed = seed
        self._cache_size = cache_size
        self._patience_seconds = patience
        self._longest = longest
        self._codec = codec
        self._converter = Converter(codec=codec or PlainCodec(), max_payload_bytes=max_payload)
        self._queues: dict[str, None] = {"default": None}
        self._mocked: set[tuple[str, str]] = set()
        self._worker: MortalWorker | None = None
        self._client: VirtualClient | None = None
        self._skipping: asyncio.Task[None] | None = None
        self._store: MemoryStore | None = None
        self._left: list[Recorded] = []
        self.register(*definitions)

    def __repr__(self) -> str:
        return f"<environment at {self.now.isoformat()}>"

    # --- opening and closing ----------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        if self._worker is not None:
            raise RuntimeError("this environment was entered already: make a new one for each test")
        store = await open_store("memory://", clock=self._clock)
        assert isinstance(store, MemoryStore)
        self._store = store
        stirring = Stirring()
        watched: Any = Watched(store, stirring, self._serve)
        self._worker = worker = self._new_worker(watched)
        self._skipper = Skipper(
            clock=self._clock,
            store=watched,
            bell=store.bell,
            stirring=stirring,
            attempts=lambda: [] if self._worker is None else self._worker.attempts(),
            reports=Reports(store, worker.registry, self._converter),
            patience_seconds=self._patience_seconds,
            longest=self._longest,
        )
        self._client = VirtualClient(
            watched,
            self._converter,
            self._clock,
            self._skipper,
            self._learn,
            self._seed,
            self._propagation,
            self._hooks,
        )
        await worker.__aenter__()
        for seen in _seen:
            seen.append(self)
        self._skipping = asyncio.get_running_loop().create_task(self._skipper.run())
        return self

    def _new_worker(self, store: Any) -> MortalWorker:
        client = Client(store, self._converter, POLL_SECONDS, self._propagation, self._hooks)
        client.clock = self._clock
        return MortalWorker(
            client,
            self._definitions,
            queues=self._queues,
            max_activities=10_000,
            max_workflow_tasks=1_000,
            cache_size=self._cache_size,
            lease=_NEVER_SECONDS,
            shutdown_timeout=0,
        )

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._left, self._store = self.recorded, None
        await self._close()
        if error is None:
            self._skipper.raise_failures()

    async def _close(self) -> None:
        assert self._skipping is not None and self._worker is not None and self._client is not None
        self._skipping.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._skipping
        self._skipper.close()
        await self._worker.__aexit__(None, None, None)
        await self._client.close()

    # --- what it runs -----------------------------------------------------------------------------------------------

    def register(self, *definitions: Definition | ModuleType) -> None:
        """Add workflows and activities, or modules that hold them. Once any were given, nothing is found by itself."""
        for given in definitions:
            self._finds = False
            for one in in_module(given) if isinstance(given, ModuleType) else [given]:
                self._add(one)

    def _add(self, one: Definition) -> None:
        self._definitions.append(one)
        if self._worker is None:
            return
        if isinstance(one, Workflow):
            if (one.definition.name, one.definition.version) not in self._mocked:
                self._worker.registry.add_workflow(one.definition)
        elif (one.definition.name, "") not in self._mocked:
            self._worker.registry.add_activity(one.definition)
        self._learned()

    def _serve(self, queue: str) -> None:
        """One worker serves all queues: which there are shows when something is put into one."""
        self._queues[queue] = None
        if self._worker is not None and self._worker.serve(queue):
            self._skipper.learned = True

    def _learned(self) -> None:
        assert self._worker is not None
        self._worker.learn()
        self._skipper.learned = True

    def _learn(self, workflow: Workflow[..., Any]) -> None:
        known = self.worker.registry.workflow(workflow.definition.name, workflow.definition.version)
        if self._finds and known is None:
            for one in named_by(workflow):
                self._add(one)

    @property
    def client(self) -> Client:
        """A client of the environment's store."""
        self._demand_open()
        assert self._client is not None
        return self._client

    @property
    def worker(self) -> Worker:
        """The environment's worker."""
        self._demand_open()
        assert self._worker is not None
        return self._worker

    def _demand_open(self) -> None:
        if self._client is None or self._worker is None:
            raise RuntimeError("this environment is not open: async with Environment(...) as env:")

    @overload
    def mock(
        self,
        target: Activity[P, R] | Workflow[P, R],
        behaviour: Callable[P, R | Awaitable[R]],
        /,
        *,
        takes: float | timedelta = 0.0,
    ) -> Mock[P, R]: ...

    @overload
    def mock(
        self,
        target: Activity[P, R] | Workflow[P, R],
        behaviour: R | Raisable = NOTHING,
        /,
        *,
        returns: R = NOTHING,
        raises: Raisable | None = None,
        calls: Callable[P, R | Awaitable[R]] | None = None,
        side_effect: Callable[P, R | Awaitable[R]] | Iterable[R | Raisable] | Raisable | None = None,
        takes: float | timedelta = 0.0,
    ) -> Mock[P, R]: ...

    def mock(
        self,
        target: Any,
        behaviour: Any = NOTHING,
        /,
        *,
        returns: Any = NOTHING,
        raises: Raisable | None = None,
        calls: Callable[..., Any] | None = None,
        side_effect: Any = None,
        takes: float | timedelta = 0.0,
    ) -> Mock[Any, Any]:
        """Let something else stand in for an activity or a child workflow, and give what counts its calls.

        ``behaviour`` is a value, a function (``async`` or not, with the arguments of the real one) or an exception;
        ``returns``, ``calls`` and ``raises`` say the same in words. ``side_effect`` is as in `unittest.mock`: a
        function, an exception, or an iterable of values and exceptions, one for each call. Without any of them the
        mock gives ``None``.
        ``takes`` is the virtual time that each call takes (seconds or ``timedelta``; ``math.inf``: it never returns),
        and an activity's ``timeout`` counts. The real one need not be registered. Retries are the real ones.

        Raises ``TypeError`` for what is neither an activity nor a workflow.
        """
        if not isinstance(target, Activity | Workflow):
            raise TypeError(
                f"env.mock takes a function decorated with @durable.activity or @durable.workflow, not {target!r}"
            )
        if behaviour is not NOTHING:
            if returns is not NOTHING or raises is not None or calls is not None or side_effect is not None:
                raise TypeError("a mock does one thing: give it without a name, or by one")
            does = Behaviour.of(behaviour, takes)
        else:
            does = Behaviour(
                returns=returns, raises=raises, calls=calls, side_effect=side_effect, takes=takes
            )
        definition = target.definition
        made: Mock[Any, Any] = Mock(definition.name, definition.fn, does, self._doze)
        self._stand_in(target, made)
        return made

    def _stand_in(self, target: Definition, made: Mock[Any, Any]) -> None:
        registry = self.worker.registry
        if isinstance(target, Activity):
            registry.activities[target.definition.name] = mocked_activity(target.definition, made)
            self._mocked.add((target.definition.name, ""))
            self._learned()
            return
        workflow, asked = mocked_workflow(target.definition, made)
        registry.workflows[workflow.name, workflow.version] = workflow
        registry.activities[asked.name] = asked
        self._mocked.add((workflow.name, workflow.version))
        self._learned()

    async def _doze(self, seconds: float) -> None:
        await self._skipper.doze(seconds)

    # --- instances --------------------------------------------------------------------------------------------------

    async def start(
        self,
        workflow: Callable[[*Ts], Coroutine[Any, Any, R]],
        *args: *Ts,
        id: str | None = None,
        tags: dict[str, str] | None = None,
        start_at: datetime | None = None,
        timeout: float | timedelta | None = None,
    ) -> Instance[R]:
        """Start an instance: `Client.create_instance` in short."""
        return await self.client.create_instance(
            workflow, *args, id=id, tags=tags, start_at=start_at, timeout=timeout
        )

    async def run(
        self,
        workflow: Callable[[*Ts], Coroutine[Any, Any, R]],
        *args: *Ts,
        id: str | None = None,
        timeout: float | timedelta | None = None,
    ) -> R:
        """Start an instance and give its result; time goes on meanwhile. Raises what awaiting an instance raises."""
        return await (await self.start(workflow, *args, id=id, timeout=timeout))

    async def history(self, instance: Instance[Any] | str) -> list[HistoryEvent]:
        """The events of an instance (or of an id), when all that can be done at this time is done."""
        return await self._handle(instance).history()

    @property
    def recorded(self) -> list[Recorded]:
        """Every run that there is (or was, once the environment is closed), oldest first, with its history as text.

        For `durable.testing.replay`, and for keeping: see `durable.testing.freeze`.
        """
        if self._store is None:
            return self._left
        views = _at_once(self._store.find(Filter(limit=1_000_000, newest_first=False))).items
        return [self._recorded(view) for view in views]

    def _recorded(self, view: InstanceView) -> Recorded:
        assert self._store is not None
        asked = HistoryRange(instance_id=view.instance_id, run_id=view.run_id)
        events = _at_once(self._store.read_history([asked])).items[0].events
        return Recorded(
            instance_id=view.instance_id,
            run_id=view.run_id,
            name=view.workflow,
            text=history_text(view, events),
            workflow=self._workflow(view.workflow, view.version),
            codec=self._codec,
            context=self._context,
        )

    def _workflow(self, name: str, version: str) -> Workflow[..., Any] | None:
        if (name, version) in self._mocked:
            return None
        definition = self.worker.registry.workflow(name, version)
        return None if definition is None else Workflow(definition)

    def _handle(self, instance: Instance[T] | str) -> Instance[T]:
        return self.client.get_instance(instance) if isinstance(instance, str) else instance

    # --- time -------------------------------------------------------------------------------------------------------

    @property
    def now(self) -> datetime:
        """The environment's time, time-zone-aware UTC."""
        return self._clock.now

    async def advance(self, time: When) -> None:
        """Let this time pass (seconds, ``timedelta``, or until a ``datetime``), with all that is due on the way.

        Afterwards everything that can be done has been done. Waits for activities that run. Raises ``ValueError`` for
        a time that is over, and what a call of `at` raised.
        """
        self._demand_open()
        await self._skipper.advance(self._clock.at(time))

    async def settle(self) -> None:
        """Until all that can be done at this time is done, but for activities that run."""
        self._demand_open()
        await self._skipper.settle()

    def at(self, time: When, call: Callable[[], object | Awaitable[object]]) -> None:
        """Have ``call()`` made (and awaited) at this time: seconds or ``timedelta`` from now, or a ``datetime``.

        Time does not go on before it has returned. What it raises comes out of whoever waits, or of `advance`.
        """
        self._demand_open()
        self._skipper.alarms.set(self._clock.at(time), lambda: self._call(call))

    def signal_at(
        self,
        time: When,
        instance: Instance[Any] | str,
        signal: Signal[T] | str,
        value: T,
        key: str | None = None,
    ) -> None:
        """Send a signal at this time; see `at`."""
        handle = self._handle(instance)
        given: Any = signal
        self.at(time, lambda: handle.signal(given, value, key))

    def _call(self, call: Callable[[], object | Awaitable[object]]) -> None:
        async def called() -> None:
            value = call()
            if inspect.isawaitable(value):
                await value

        self._skipper.call(asyncio.get_running_loop().create_task(called(), name="durable environment: at"))


def _at_once(call: Coroutine[Any, Any, T]) -> T:
    """What a call of the memory store gives: it never waits, so that no loop is needed."""
    try:
        call.send(None)
    except StopIteration as done:
        value: T = done.value
        return value
    raise RuntimeError("the memory store waited for something")
