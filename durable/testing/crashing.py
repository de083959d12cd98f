"""`crash_everywhere`: a workflow is run once for each point at which its worker could die, and must not care.

A point is before or behind a call with which the worker changes the store (claims, checkpoints, results), or the
beginning or end of an activity's function. At the point everything that the worker has not written is lost, and what it
held goes to a new worker, as if its leases had run out. Time does not pass meanwhile, so that every run of the workflow
can be compared with the one without a crash.
"""

from __future__ import annotations

import asyncio
import inspect
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import wraps
from itertools import combinations
from random import Random
from typing import Any, TypeVar

from durable.backends.records import Accepted, ActivityFinished, Answer, Checkpoint, Filter, Paused
from durable.client.instance import Instance
from durable.core.events import ActivityCompleted, ActivityFailed, decode_event
from durable.core.failure import Failure
from durable.errors import DurableError, NonDeterminismError
from durable.primitives.activity import Activity
from durable.primitives.attempt import current_attempt
from durable.primitives.workflow import Workflow
from durable.testing.environment import Environment
from durable.testing.finding import Definition, named_by
from durable.testing.mortal_worker import Mortal, MortalWorker
from durable.testing.stuck import Stuck
from durable.testing.thorough import replay_thoroughly

T = TypeVar("T")
Setup = Callable[[Environment], object]
Drive = Callable[[Environment, Instance[Any]], Awaitable[object]]

INSTANCE_ID = "crashed"
_WRITES = frozenset(
    {
        "claim_workflow_tasks",
        "claim_activity_tasks",
        "commit",
        "finish_activities",
        "change",
        "send",
        "close_done",
    }
)


class Broken(AssertionError):
    """A crash changed what came out. ``point`` says where it hit; the message tells both outcomes."""

    def __init__(self, message: str, points: Sequence[str]) -> None:
        super().__init__(message)
        self.points = tuple(points)


@dataclass(frozen=True, slots=True, kw_only=True)
class Crashes:
    """What `crash_everywhere` did: the points of a run without a crash, how many runs, and the common outcome."""

    points: tuple[str, ...]
    runs: int
    outcome: Any


async def crash_everywhere(
    workflow: Workflow[..., Any],
    *args: Any,
    activities: Iterable[Activity[Any, Any]] = (),
    workflows: Iterable[Workflow[..., Any]] = (),
    setup: Setup | None = None,
    drive: Drive | None = None,
    crashes: int = 1,
    most_runs: int = 1000,
    seed: object = 0,
    **options: Any,
) -> Crashes:
    """Run ``workflow(*args)`` once for every point at which a crash could hit; the outcome must always be the same.

    ``activities`` and ``workflows`` are what it needs beside itself (default: what its code names). ``setup(env)`` is
    called before each run: to mock, and to put back what real activities have changed. ``drive(env, instance)`` is
    awaited after the start: to send signals (`Environment.signal_at`), to ask. With ``crashes=2`` every pair of points
    is tried too, behind all single ones; when that makes more than ``most_runs`` runs, some of them by chance
    (``seed``). ``options`` are those of `Environment`.

    What is compared: state, status, variables and result (or error) of every instance, and what was published. An
    activity may be repeated only if the crash hit between its beginning and the recording of its result, and never one
    with ``at_most_once``. Every history is replayed, and the store is audited.

    Raises `Broken` for the first point that breaks one of these: the earliest, and with as few crashes as can be.
    """
    definitions: list[Definition] = [workflow, *activities, *workflows]
    if len(definitions) == 1:
        definitions = named_by(workflow)
    trial = _Trials(workflow, args, definitions, setup, drive, seed, options)
    calm = await trial.run(())
    if calm.problem is not None:
        raise Broken(f"it breaks without a crash: {calm.problem}", ())
    runs = 1
    for points in _choices(len(calm.points), crashes, most_runs, seed):
        found = await trial.run(points)
        runs += 1
        problem = found.problem or _differs(calm, found)
        if problem is not None:
            raise Broken(_report(workflow, calm, found, points, problem), found.crashed)
    return Crashes(points=calm.points, runs=runs, outcome=calm.outcome)


def _choices(count: int, crashes: int, most: int, seed: object) -> Iterable[tuple[int, ...]]:
    """Sets of points, single ones first: so the first that breaks is as small and as early as can be."""
    left = most
    for size in range(1, crashes + 1):
        sets: Iterable[tuple[int, ...]] = combinations(range(count), size)
        chosen = list(sets) if count**size <= 1_000_000 else []
        if not chosen or len(chosen) > left:
            random = Random(f"{seed}/{size}")
            chosen = sorted({tuple(sorted(random.sample(range(count), size))) for _ in range(max(left, 0))})
        left -= len(chosen)
        yield from chosen


# --- one run --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """A run: the points that it came by, those at which it crashed, what came of it, what was wrong in itself."""

    points: tuple[str, ...]
    crashed: tuple[str, ...]
    outcome: Any
    executed: Counter[str]
    problem: str | None


class _Trials:
    """Runs the same workflow again and again, each time in an environment of its own."""

    def __init__(
        self,
        workflow: Workflow[..., Any],
        args: tuple[Any, ...],
        definitions: Iterable[Definition],
        setup: Setup | None,
        drive: Drive | None,
        seed: object,
        options: dict[str, Any],
    ) -> None:
        self._workflow = workflow
        self._args = args
        self._definitions = list(definitions)
        self._setup = setup
        self._drive = drive
        self._options = {"patience": 0.2, **options, "seed": seed}

    async def run(self, crash_at: Sequence[int]) -> _Found:
        env = CrashingEnvironment(self._definitions, crash_at=crash_at, **self._options)
        outcome: Any = None
        problem: str | None = None
        async with env:
            await _settled(None if self._setup is None else self._setup(env))
            env.wrap_activities()
            try:
                instance = await env.client.create_instance(
                    self._workflow, *self._args, kwargs={}, id=INSTANCE_ID
                )
                if self._drive is not None:
                    await self._drive(env, instance)
                await _ended(instance)
                await env.settle()
                outcome = await _outcome(env)
                problem = await _unsound(env) or env.repeated
            except Stuck as error:
                problem = str(error)
        return _Found(
            points=tuple(env.points),
            crashed=tuple(env.points[number] for number in crash_at if number < len(env.points)),
            outcome=outcome,
            executed=env.executed,
            problem=problem,
        )


class CrashingEnvironment(Environment):
    """An environment whose worker dies at the points with these numbers, each time followed by a new one."""

    def __init__(self, definitions: Iterable[Definition], *, crash_at: Sequence[int], **options: Any) -> None:
        super().__init__(definitions, **options)
        self.points: list[str] = []
        self.executed: Counter[str] = Counter()
        self.repeated: str | None = None
        self._crash_at = frozenset(crash_at)
        self._counts: Counter[str] = Counter()
        self._begun: dict[tuple[str, int, int], int] = {}
        self._recorded_results: set[tuple[str, int]] = set()
        self._mortals: list[Mortal] = []
        self._dead: list[MortalWorker] = []
        self._reviving: asyncio.Task[None] | None = None

    def _new_worker(self, store: Any) -> MortalWorker:
        self._watched_store = store
        mortal = Mortal(store, lambda name, side, about: self._gate(mortal, name, side, about))
        self._mortals.append(mortal)
        return super()._new_worker(mortal)

    async def _close(self) -> None:
        if self._reviving is not None:
            await self._reviving
        for mortal in self._mortals[:-1]:
            mortal.close()
        for worker in self._dead:
            await worker.bury()
        await super()._close()

    # --- points -----------------------------------------------------------------------------------------------------

    async def _gate(self, mortal: Mortal, name: str, side: str, about: Any) -> None:
        if side == "after":
            self._note(name, *about)
        if name not in _WRITES or (side == "after" and not about[1].items):
            return
        if name.startswith("claim") and side == "before":
            return  # nothing was handed out yet: it is the same as behind whatever came before
        self._counts[name] += side == "before" or name.startswith("claim")
        where = f"{name} {self._counts[name]}"
        told = f"before {where}" if side == "before" else f"behind {where}, whose answer is lost"
        await self._pass(mortal, told)

    async def _pass(self, mortal: Mortal, point: str) -> None:
        """A point on the way of the worker whose store this is; the dead come by no more."""
        await mortal.unless_dead()
        self.points.append(point)
        if len(self.points) - 1 in self._crash_at:
            self._crash()
            await mortal.unless_dead()

    def _crash(self) -> None:
        assert self._worker is not None
        self._mortals[-1].dead = True
        dying = self._worker
        self._dead.append(dying)
        self._worker = self._new_worker(self._watched_store)
        self._worker.registry = dying.registry
        self._reviving = asyncio.get_running_loop().create_task(self._revive(dying))

    async def _revive(self, dying: MortalWorker) -> None:
        """A task of its own: it must not be among those that it ends."""
        dying.die()
        self._let_go()
        assert self._worker is not None
        await self._worker.__aenter__()

    def _let_go(self) -> None:
        """What the dead worker held is free, as if its leases had run out."""
        assert self._store is not None
        tables = self._store._tables
        now_us = tables.now()
        for run in tables.runs():
            if run.lease is not None:
                run.lease.until_us = now_us
                tables.place(run)
            for row in run.activities.values():
                if row.lease is not None:
                    row.lease.until_us = now_us
                    tables.place_activity(row)
        for held in (tables.overdue, tables.closings):
            for key in held.all_keys():
                row_run = tables.run(*key)
                deadline_us = (
                    row_run.deadline_us if held is tables.overdue and row_run is not None else now_us
                )
                held.put(key, deadline_us)

    # --- activities -------------------------------------------------------------------------------------------------

    def wrap_activities(self) -> None:
        """Make the beginning and the end of every registered activity a point."""
        registry = self.worker.registry
        for name, definition in registry.activities.items():
            registry.activities[name] = replace(definition, fn=self._wrapped(definition.fn), executor=None)

    def _wrapped(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(fn)
        async def wrapped(*args: Any, **kwargs: Any) -> Any:
            attempt: Any = current_attempt.get()
            mortal = attempt._parts.store
            self._counts[attempt.item.name] += 1
            which = f"activity {attempt.item.name!r}, call {self._counts[attempt.item.name]}"
            await self._pass(mortal, f"{which}: taken, not begun")
            self._begin(attempt)
            if inspect.iscoroutinefunction(fn):
                value = await fn(*args, **kwargs)
            else:
                value = await asyncio.to_thread(fn, *args, **kwargs)
            await self._pass(mortal, f"{which}: over, nothing recorded")
            return value

        return wrapped

    def _begin(self, attempt: Any) -> None:
        ref, number = attempt.ref, attempt.item.attempt
        key = (ref.run_id, ref.number, number)
        times = self._begun[key] = self._begun.get(key, 0) + 1
        self.executed[attempt.item.name] += 1
        if times == 1:
            return
        if attempt.options.at_most_once:
            self.repeated = f"activity {attempt.label} began {times} times, but is at_most_once"
        elif (ref.run_id, ref.number) in self._recorded_results:
            self.repeated = f"activity {attempt.label} began again after its result had been recorded"
        elif times > 1 + len(self._dead):
            self.repeated = f"activity {attempt.label} began {times} times with {len(self._dead)} crashes"

    def _note(self, name: str, args: tuple[Any, ...], answer: Answer[Any]) -> None:
        """What the store has accepted is recorded, whether or not the worker learns of it."""
        if name not in ("commit", "finish_activities"):
            return
        for given, verdict in zip(args[0], answer.items, strict=True):
            if isinstance(verdict, Accepted | Paused):
                self._recorded_results |= set(_recorded_by(given))


def _recorded_by(given: Any) -> Iterable[tuple[str, int]]:
    if isinstance(given, Checkpoint):
        for event in map(decode_event, given.events):
            if isinstance(event, ActivityCompleted | ActivityFailed):
                yield given.run_id, event.number
    elif isinstance(given, ActivityFinished):
        yield given.ref.run_id, given.ref.number


# --- what came of it ------------------------------------------------------------------------------------------------


async def _settled(value: Any) -> None:
    if inspect.isawaitable(value):
        await value


async def _ended(instance: Instance[Any]) -> None:
    try:
        await instance
    except Stuck:
        raise
    except DurableError:
        pass  # however it ended: the outcome is told by the store


async def _outcome(env: Environment) -> dict[str, Any]:
    """Every instance as people see it, and what was published."""
    store = env.client.store
    found: dict[str, Any] = {}
    for view in (await store.find(Filter(limit=1_000_000, newest_first=False))).items:
        failure = None
        if view.failure is not None and view.state == "failed":
            told = Failure.from_text(env.client.converter.unseal(view.failure))
            failure = f"{told.type}: {told.message}"
        found[f"{view.instance_id}/{view.run_id}"] = {
            "workflow": view.workflow,
            "state": view.state,
            "status": view.status,
            "vars": dict(view.vars),
            "result": view.result,
            "failure": failure,
        }
    published = env._store._tables.outbox.values() if env._store is not None else ()
    events = [event for backlog in published for event in backlog.events.values()]
    found["published"] = [(event.topic, event.key, event.payload) for event in events]
    return found


async def _unsound(env: Environment) -> str | None:
    findings = (await env.client.store.audit()).items
    if findings:
        return f"the store is not sound: {findings[0]}"
    try:
        replay_thoroughly(env.recorded, evicting=False)  # every crash is one
    except NonDeterminismError as error:
        return str(error)
    return None


def _differs(calm: _Found, found: _Found) -> str | None:
    for key in sorted(calm.outcome.keys() | found.outcome.keys()):
        before, now = calm.outcome.get(key), found.outcome.get(key)
        if before != now:
            return f"{key}\n  without a crash: {before}\n  with it:         {now}"
    return None


def _report(
    workflow: Workflow[..., Any], calm: _Found, found: _Found, numbers: Sequence[int], problem: str
) -> str:
    places = " and ".join(
        f"{point!r} (point {number + 1} of {len(calm.points)})"
        for number, point in zip(numbers, found.crashed, strict=False)
    )
    repeated = found.executed - calm.executed
    again = "".join(f"\n  activity {name!r} began {n} more time(s)" for name, n in repeated.items())
    return f"workflow {workflow.definition.name!r} does not survive a crash at {places}: {problem}{again}"
