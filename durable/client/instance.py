"""Instances as clients see them: a handle without state, descriptions, pages."""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

import orjson

from durable.backends.records import (
    Change,
    Finished,
    InstanceRef,
    InstanceView,
    NewMessage,
    Pause,
    Resume,
    State,
    Unfinished,
)
from durable.client.endings import termination
from durable.client.verdicts import demand, not_found
from durable.client.waiting import Ending
from durable.core import messages
from durable.core.definition import WorkflowDefinition
from durable.core.events import Event
from durable.core.failure import Failure, rebuild
from durable.core.history import decode_history
from durable.core.ids import new_token
from durable.core.payload import Converter
from durable.core.retry import seconds
from durable.errors import (
    InstanceFinished,
    InstanceNotFound,
    WorkflowCancelled,
    WorkflowFailed,
    WorkflowTerminated,
)
from durable.primitives.info import time_of
from durable.primitives.signal import Signal

if TYPE_CHECKING:
    from durable.client.client import Client

T = TypeVar("T")
R_co = TypeVar("R_co", covariant=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class StallReport:
    """Why a run is stalled."""

    message: str
    expected: str = ""
    actual: str = ""
    file: str = ""
    line: int = 0
    event: int = 0
    task: str = ""
    arguments: tuple[str, ...] = ()
    stalls: int = 1
    build: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """A run: what `Instance.describe` and `Client.list_instances` tell. Times are time-zone-aware UTC."""

    id: str
    run_id: str
    workflow: str
    version: str
    queue: str
    state: State
    status: str | None
    tags: Mapping[str, str]
    parent: tuple[str, str] | None
    created_at: datetime
    updated_at: datetime
    closed_at: datetime | None
    start_at: datetime | None
    deadline: datetime | None
    history_length: int
    history_bytes: int
    problem: StallReport | None
    reason: str | None
    next_run_id: str | None
    first_run_id: str
    vars: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryEvent:
    """An event as `Instance.history` shows it: its number (from 1), kind, time, and the fields of the kind."""

    number: int
    kind: str
    time: datetime
    fields: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """A page of a list: iterable, with a length. ``cursor`` asks for the next one; ``None`` at the end."""

    items: Sequence[Description]
    cursor: str | None

    def __iter__(self) -> Iterator[Description]:
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Description:
        return self.items[index]

    @classmethod
    def of(cls, items: Sequence[Description], limit: int) -> Page:
        if len(items) < limit:
            return cls(items=items, cursor=None)
        last = items[-1]
        at_us = round(last.created_at.timestamp() * 1e6)
        return cls(items=items, cursor=base64.urlsafe_b64encode(orjson.dumps([at_us, last.run_id])).decode())

    @staticmethod
    def read_cursor(cursor: str) -> tuple[int, str]:
        """Raises ``ValueError`` for what no page gave."""
        try:
            at_us, run_id = orjson.loads(base64.urlsafe_b64decode(cursor))
            if isinstance(at_us, int) and isinstance(run_id, str):
                return at_us, run_id
        except (ValueError, TypeError, binascii.Error):
            pass
        raise ValueError(f"cursor {cursor!r} was not given by list_instances")


class Instance(Generic[R_co]):
    """A handle to an instance; awaiting it gives the result.

    One that `Client.create_instance` gave follows its runs: ``run_id`` is the first, and what it tells is about the
    latest. One that `Client.get_instance` gave with a ``run_id`` tells of exactly that run.
    """

    def __init__(
        self,
        client: Client,
        id: str,
        run_id: str | None,
        definition: WorkflowDefinition | None,
        *,
        follows: bool = True,
    ) -> None:
        self._client = client
        self._definition = definition
        self._follows = follows
        self.id = id
        self.run_id = run_id

    def __repr__(self) -> str:
        return f"<instance {self.id!r}>"

    def __await__(self) -> Generator[Any, None, R_co]:
        return self.result().__await__()

    async def result(self, timeout: float | timedelta | None = None) -> R_co:
        """Wait until the instance ends (following continued runs), and give its result.

        Raises `WorkflowFailed` (its ``__cause__`` is what the workflow raised), `WorkflowCancelled`,
        `WorkflowTerminated`, `InstanceNotFound`, ``TimeoutError`` after ``timeout`` (seconds or ``timedelta``),
        `PayloadError` if the result does not fit the annotation known here.
        """
        limit = seconds(timeout, "timeout")
        if limit is None:
            return self._value_of(await self._ended())
        try:
            async with asyncio.timeout(limit):
                ending = await self._ended()
        except TimeoutError:
            raise TimeoutError(f"instance {self.id!r} did not end within {limit} s; it goes on") from None
        return self._value_of(ending)

    async def _ended(self) -> Ending:
        ref = self._ref
        while True:
            ending = await self._client.waiting.closed(ref)
            if ending is None:
                raise self._missing()
            if ending.state != "continued_as_new" or ending.next_run_id is None:
                return ending
            ref = InstanceRef(instance_id=self.id, run_id=ending.next_run_id)

    def _value_of(self, ending: Ending) -> R_co:
        match ending.state:
            case "completed":
                annotation = self._definition.signature.result if self._definition is not None else Any
                what = f"result of instance {self.id!r}"
                value: R_co = self._client.converter.decode(ending.result or "null", annotation, what)
                return value
            case "cancelled":
                raise WorkflowCancelled(_because(f"instance {self.id!r} was cancelled", ending.failure))
            case "terminated":
                raise WorkflowTerminated(_because(f"instance {self.id!r} was terminated", ending.failure))
            case _:
                failure = Failure.from_text(self._client.converter.unseal(ending.failure or ""))
                cause = rebuild(failure, self._client.known)
                raise WorkflowFailed(
                    f"instance {self.id!r} failed: {type(cause).__name__}: {failure.message}"
                ) from cause

    # --- looking --------------------------------------------------------------------------------------------------

    async def describe(self) -> Description:
        """What the instance (its latest run, or exactly the run of this handle's ``run_id``) is now.

        Raises `InstanceNotFound`.
        """
        return description_of(await self._view(), self._client.converter)

    async def history(self) -> list[HistoryEvent]:
        """The events of the run, from number 1, without gaps. Raises `InstanceNotFound`, `BackendError`."""
        stored = await self._client.events(await self._view())
        return [_shown(number, event) for number, event in enumerate(decode_history(stored), 1)]

    async def vars(self) -> dict[str, Any]:
        """The variables that the workflow has set, as plain JSON values. Raises `InstanceNotFound`."""
        return dict((await self.describe()).vars)

    # --- talking --------------------------------------------------------------------------------------------------

    @overload
    async def signal(
        self, signal: Signal[T], value: T, key: str | None = None, *, connection: Any = None
    ) -> None: ...

    @overload
    async def signal(
        self, signal: str, value: Any = None, key: str | None = None, *, connection: Any = None
    ) -> None: ...

    async def signal(
        self, signal: Signal[Any] | str, value: Any = None, key: str | None = None, *, connection: Any = None
    ) -> None:
        """Send a signal. With ``key``, sending it again is harmless for as long as the id lives.

        With ``connection`` it is part of the caller's open transaction, as in `Client.create_instance`.

        Raises `InstanceNotFound`, `InstanceFinished`, `PayloadError`.
        """
        await self._client.send(self._client.signal_message(self.id, signal, value, key), connection)

    async def cancel(self, reason: str | None = None) -> None:
        """Ask the workflow to cancel: ``CancelledError`` at its next await.

        Raises `InstanceFinished`, `InstanceNotFound`.
        """
        message = NewMessage(
            instance_id=self.id,
            key=f"cancel/{new_token()}",
            kind=messages.CANCEL,
            body=messages.cancel_body(reason),
        )
        await self._client.send(message)

    async def terminate(self, reason: str | None = None) -> None:
        """End the instance at once, without clean-up and without its code. Raises like `cancel`."""
        now_us = self._client.clock.now_us()
        await self._change(lambda ref, view: termination(ref, view.parent, reason, now_us))

    async def pause(self, reason: str | None = None) -> None:
        """Stop handing out the instance's work; what runs may finish. Raises like `cancel`."""
        await self._change(lambda ref, _: Pause(ref=ref, reason=reason))

    async def resume(self) -> None:
        """Undo `pause`; a stalled instance is tried again. Raises like `cancel`."""
        await self._change(lambda ref, _: Resume(ref=ref))

    async def fork(self, at: int, *, id: str | None = None) -> Instance[R_co]:
        """Start a new instance that keeps events 1 to ``at`` of this one's run, and goes on from there by itself.

        ``at`` is the number of an event (`history`): an input (``run_started``, ``activity_completed``, ...), and what
        that led to is decided anew; or the last that an input led to, and the fork waits as the run did. Activities
        that were not over there are begun again; those with ``at_most_once`` raise `WorkerLost`. A child that was not
        over there but has completed or failed since is not: the fork gets that end. One that was terminated or
        cancelled since is begun again, as the fork's own. ``id`` defaults to a random one. Tags are kept; parent,
        timeout, status and variables are not.

        Raises ``ValueError`` for an event at which there can be no fork (it says which are near, or which child still
        runs), `InstanceNotFound`, `InstanceAlreadyExists`.
        """
        forked: Instance[R_co] = await self._client.fork(await self._view(), at, id, self._definition)
        return forked

    async def delete(self) -> None:
        """Forget a finished instance with all its runs.

        Raises `InstanceNotFound`, `InstanceFinished` ("unfinished").
        """
        ref = InstanceRef(instance_id=self.id)
        match await self._client.try_delete(ref):
            case Unfinished(state=state):
                raise InstanceFinished(f"instance {self.id!r} is unfinished ({state}): terminate it first")
            case verdict:
                demand(verdict, ref)

    async def query(
        self,
        name: str,
        /,
        *args: Any,
        kwargs: Mapping[str, Any] | None = None,
        timeout: float | timedelta = 10.0,
        **more: Any,
    ) -> Any:
        """Ask the workflow; any worker that has its code answers, also when it is paused, stalled or finished.

        An argument of the query that has the name of one of ours goes into ``kwargs``: ``kwargs={"timeout": 5}``.
        Answers are plain JSON values. Raises `QueryFailed` when the query is unknown or raises, or the arguments do not
        fit; `InstanceNotFound`; ``TimeoutError`` when no worker answered within ``timeout`` (seconds or ``timedelta``).
        """
        limit = seconds(timeout, "timeout")
        payload = self._client.arguments(f"query {name!r}", args, _merged(f"query {name!r}", kwargs, more))
        ref = self._ref_of(await self._view())
        return await self._client.questions.query(ref, name, payload, limit)

    async def update(
        self,
        name: str,
        /,
        *args: Any,
        kwargs: Mapping[str, Any] | None = None,
        key: str | None = None,
        timeout: float | timedelta | None = None,
        **more: Any,
    ) -> Any:
        """Run an update inside the workflow and give its answer, plain JSON values. ``key`` makes a resend harmless.

        An argument of the update that has the name of one of ours goes into ``kwargs``: ``kwargs={"key": "k-1"}``.

        Raises `UpdateRejected` (unknown, arguments that do not fit, refused by its validator; nothing was done), what
        the update raised, `InstanceFinished` if the workflow ends first, `InstanceNotFound`, ``TimeoutError``.
        """
        limit = seconds(timeout, "timeout")
        payload = self._client.arguments(f"update {name!r}", args, _merged(f"update {name!r}", kwargs, more))
        return await self._client.questions.update(self, name, payload, key, limit)

    # --- inside ---------------------------------------------------------------------------------------------------

    @property
    def _ref(self) -> InstanceRef:
        return InstanceRef(instance_id=self.id, run_id=self.run_id)

    async def _view(self) -> InstanceView:
        """The run that this handle is about now. Raises `InstanceNotFound`."""
        if self.run_id is None or not self._follows:
            return await self._client.view(self._ref)
        latest = await self._client.view(InstanceRef(instance_id=self.id))
        if latest.first_run_id == self.run_id:
            return latest
        view = await self._client.view(self._ref)  # the id was used anew: walk along our own runs
        while view.next_run_id is not None:
            view = await self._client.view(InstanceRef(instance_id=self.id, run_id=view.next_run_id))
        return view

    def _ref_of(self, view: InstanceView) -> InstanceRef:
        return InstanceRef(instance_id=self.id, run_id=view.run_id)

    async def _change(self, make: Callable[[InstanceRef, InstanceView], Change]) -> None:
        """Change the run that this handle is about; one that continued as new meanwhile is looked up again."""
        while True:
            view = await self._view()
            verdict = await self._client.try_change(make(self._ref_of(view), view))
            if isinstance(verdict, Finished) and verdict.state == "continued_as_new" and self._follows:
                continue
            demand(verdict, self._ref)
            return

    def _missing(self) -> InstanceNotFound:
        return not_found(self._ref)


def _merged(what: str, given: Mapping[str, Any] | None, more: Mapping[str, Any]) -> dict[str, Any]:
    both = sorted(set(given or {}) & set(more))
    if both:
        raise TypeError(f"{what} got {both[0]!r} twice: by itself and in kwargs=")
    return {**(given or {}), **more}


def description_of(view: InstanceView, converter: Converter) -> Description:
    """What a store's view tells people."""
    return Description(
        id=view.instance_id,
        run_id=view.run_id,
        workflow=view.workflow,
        version=view.version,
        queue=view.queue,
        state=view.state,
        status=view.status,
        tags=dict(view.tags),
        parent=None if view.parent is None else (view.parent.instance_id, view.parent.run_id),
        created_at=time_of(view.created_at_us),
        updated_at=time_of(view.updated_at_us),
        closed_at=_time(view.closed_at_us),
        start_at=_time(view.start_at_us),
        deadline=_time(view.deadline_us),
        history_length=view.head.number,
        history_bytes=view.history_bytes,
        problem=_problem_of(view),
        reason=view.reason,
        next_run_id=view.next_run_id,
        first_run_id=view.first_run_id,
        vars={
            name: converter.decode(payload, Any, f"variable {name!r}") for name, payload in view.vars.items()
        },
    )


def _problem_of(view: InstanceView) -> StallReport | None:
    if view.problem is None:
        return None
    known = {"message", "expected", "actual", "file", "line", "event", "task", "arguments"}
    try:
        report = orjson.loads(view.problem.report)
        fields: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value
            for key, value in report.items()
            if key in known
        }
    except (ValueError, AttributeError):
        fields = {"message": view.problem.report}
    return StallReport(**{"message": "", **fields}, stalls=view.problem.stalls, build=view.problem.build)


def _shown(number: int, event: Event) -> HistoryEvent:
    fields = {
        name: getattr(event, name)
        for name in type(event).__dataclass_fields__
        if name not in ("kind", "time_us")
    }
    return HistoryEvent(number=number, kind=event.kind, time=time_of(event.time_us), fields=fields)


def _time(micros: int | None) -> datetime | None:
    return None if micros is None else time_of(micros)


def _because(words: str, failure: str | None) -> str:
    reason = messages.reason_of(failure)
    return f"{words}: {reason}" if reason else words
