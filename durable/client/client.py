"""The client: starts instances, finds them, talks to them, waits for them. It needs no worker and no code of theirs."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Literal, TypeVar, TypeVarTuple, cast, overload

from durable.backends.batches import Batches
from durable.backends.clock import StoreClock
from durable.backends.contract import Backend, TransactionStore
from durable.backends.records import (
    CLOSED_STATES,
    OPEN_STATES,
    ActivityFinished,
    ActivityOutcome,
    ActivityRef,
    Change,
    Checkpoint,
    Created,
    End,
    Existing,
    Filter,
    Finding,
    Head,
    HistoryRange,
    HistorySlice,
    InstanceRef,
    InstanceView,
    NewInstance,
    NewMessage,
    NotFound,
    Parent,
    Purge,
    Question,
    Refused,
    Reply,
    State,
    Stats,
    Taken,
    Ticket,
    Verdict,
)
from durable.client.address import Address, open_backend
from durable.client.asking import Asking
from durable.client.audit import Audit
from durable.client.endings import termination
from durable.client.export import history_text
from durable.client.forking import read_fork
from durable.client.instance import Instance, Page, description_of
from durable.client.later import demand_told_before
from durable.client.nearby import Nearby
from durable.client.verdicts import demand, is_accepted, not_found
from durable.client.waiting import Waiting
from durable.core import messages
from durable.core.definition import WorkflowDefinition
from durable.core.events import RunStarted, encode_event
from durable.core.failure import failure_of, known_exceptions
from durable.core.hooks import NO_HOOKS, NO_PROPAGATION, HookList, Hooks, Propagation
from durable.core.ids import check_id, first_token, new_run_id, new_token
from durable.core.payload import MAX_PAYLOAD_BYTES, Codec, Converter, PlainCodec
from durable.core.retry import seconds
from durable.core.signature import CallSignature
from durable.errors import (
    BackendError,
    InstanceAlreadyExists,
    PayloadError,
)
from durable.primitives.signal import Signal, signal_payload
from durable.primitives.timer import micros_of
from durable.primitives.workflow import Workflow

R = TypeVar("R")
Ts = TypeVarTuple("Ts")
IfExists = Literal["fail", "use", "replace"]

PATIENCE_SECONDS = 10.0
in_transaction: ContextVar[bool] = ContextVar("durable_in_transaction", default=False)
"""Whether this task is inside ``durable.transaction()``."""
_log = logging.getLogger("durable")


class Client:
    """A connection to a store; made by `connect`."""

    def __init__(
        self,
        store: Backend,
        converter: Converter,
        poll_seconds: float,
        propagation: Propagation = NO_PROPAGATION,
        hooks: HookList = NO_HOOKS,
    ) -> None:
        self.propagation = propagation
        self.hooks = hooks
        self.store = store
        self.converter = converter
        self.poll_seconds = poll_seconds
        self.clock = StoreClock()
        self.known = known_exceptions()
        self._creates: Batches[NewInstance, Any] = Batches(store.create, patience_seconds=PATIENCE_SECONDS)
        self._sends: Batches[NewMessage, Verdict] = Batches(store.send, patience_seconds=PATIENCE_SECONDS)
        self._changes: Batches[Change, Verdict] = Batches(store.change, patience_seconds=PATIENCE_SECONDS)
        self._gets: Batches[InstanceRef, InstanceView | None] = Batches(
            store.get, patience_seconds=PATIENCE_SECONDS
        )
        self._finishes: Batches[ActivityOutcome, Verdict] = Batches(
            store.finish_activities, patience_seconds=PATIENCE_SECONDS
        )
        self._reads: Batches[HistoryRange, HistorySlice] = Batches(
            store.read_history, patience_seconds=PATIENCE_SECONDS
        )
        self._asks: Batches[Question, Ticket | NotFound] = Batches(
            store.ask, patience_seconds=PATIENCE_SECONDS
        )
        self._replies: Batches[Ticket, Reply | None] = Batches(
            store.replies, patience_seconds=PATIENCE_SECONDS
        )
        self._commits: Batches[Checkpoint, Verdict] = Batches(store.commit, patience_seconds=PATIENCE_SECONDS)
        self._deletes: Batches[InstanceRef, Verdict] = Batches(
            store.delete, patience_seconds=PATIENCE_SECONDS
        )
        self.nearby: list[Nearby] = []
        """Workers of this client: they may begin at once what it starts, and tell it what they have ended."""
        self.waiting = Waiting(store, poll_seconds, self.nearby)
        self.questions = Asking(self)

    def __repr__(self) -> str:
        return f"<client of {self.store.url}>"

    # --- starting -------------------------------------------------------------------------------------------------

    @overload
    async def create_instance(
        self,
        workflow: Callable[[*Ts], Coroutine[Any, Any, R]],
        *args: *Ts,
        id: str | None = None,
        queue: str | None = None,
        version: str | None = None,
        start_at: datetime | None = None,
        tags: Mapping[str, str] | None = None,
        if_exists: IfExists = "fail",
        timeout: float | timedelta | None = None,
        connection: Any = None,
    ) -> Instance[R]: ...

    @overload
    async def create_instance(
        self,
        workflow: Workflow[..., R],
        *args: Any,
        kwargs: Mapping[str, Any],
        id: str | None = None,
        queue: str | None = None,
        version: str | None = None,
        start_at: datetime | None = None,
        tags: Mapping[str, str] | None = None,
        if_exists: IfExists = "fail",
        timeout: float | timedelta | None = None,
        connection: Any = None,
    ) -> Instance[R]: ...

    @overload
    async def create_instance(
        self,
        workflow: str,
        *args: Any,
        kwargs: Mapping[str, Any] | None = None,
        id: str | None = None,
        queue: str | None = None,
        version: str | None = None,
        start_at: datetime | None = None,
        tags: Mapping[str, str] | None = None,
        if_exists: IfExists = "fail",
        timeout: float | timedelta | None = None,
        connection: Any = None,
    ) -> Instance[Any]: ...

    async def create_instance(  # type: ignore[misc]  # mypy does not match *Ts with the implementation's *args
        self,
        workflow: Any,
        *args: Any,
        kwargs: Mapping[str, Any] | None = None,
        id: str | None = None,
        queue: str | None = None,
        version: str | None = None,
        start_at: datetime | None = None,
        tags: Mapping[str, str] | None = None,
        if_exists: IfExists = "fail",
        timeout: float | timedelta | None = None,
        connection: Any = None,
    ) -> Instance[Any]:
        """Start a workflow (the function, or its name) and give its `Instance`.

        ``id`` is yours to choose: at most one unfinished run has it (``None``: a random one). ``if_exists`` says what
        happens otherwise: ``"fail"`` raises `InstanceAlreadyExists`, ``"use"`` gives the unfinished run if it is of the
        same workflow, ``"replace"`` terminates it and starts anew. ``start_at`` delays the start, ``timeout`` (seconds
        or ``timedelta``) covers the instance with all its runs, ``tags`` are for `list_instances`. With ``connection``
        (an aiosqlite, asyncpg or aiomysql connection to the same database) it is part of the caller's open transaction:
        the workflow starts if and only if that commits.

        Raises `TypeError` for arguments that do not fit the signature, `PayloadError` and `PayloadTooLarge` for those
        that cannot be stored, before anything is written; `BackendError` if the store does not answer.
        """
        new = self._new_instance(
            workflow, args, kwargs or {}, id, queue, version, start_at, tags, if_exists, timeout
        )
        return await self._create(new, workflow, connection)

    async def signal_with_start(
        self,
        workflow: Workflow[..., R] | str,
        *args: Any,
        id: str,
        signal: Signal[Any] | str,
        value: Any = None,
        key: str | None = None,
        kwargs: Mapping[str, Any] | None = None,
        queue: str | None = None,
        version: str | None = None,
        tags: Mapping[str, str] | None = None,
        timeout: float | timedelta | None = None,
    ) -> Instance[R]:
        """Send a signal to the instance ``id``, starting it first if it does not run; both or neither.

        Raises like `create_instance` and `Instance.signal`.
        """
        new = self._new_instance(workflow, args, kwargs or {}, id, queue, version, None, tags, "use", timeout)
        message = self.signal_message(id, signal, value, key)
        return await self._create(replace(new, messages=(message,)), workflow)

    async def _create(
        self, new: NewInstance, workflow: Workflow[..., Any] | str, connection: Any = None
    ) -> Instance[Any]:
        if new.replaces is not None:
            new = await self._tell_the_parent(new)
        if connection is not None:
            inside = await self._transactional().create_in(connection, new)
            answer, now_us = inside.items[0], inside.now_us
        else:
            _refuse_to_wait_for_oneself()
            answer, now_us = await self._created(new)
        self.clock.hear(now_us)
        match answer:
            case Created(run_id=run_id) | Existing(run_id=run_id):
                if isinstance(answer, Created) and connection is None:
                    self.waiting.born(new.instance_id)
                return Instance(self, new.instance_id, run_id, _definition_of(workflow))
            case Taken(workflow=holder, state=state):
                raise InstanceAlreadyExists(
                    f"instance {new.instance_id!r} exists already ({state}, workflow {holder!r}). "
                    "Choose another id, or if_exists='use' or 'replace'"
                )
            case Refused(reason=reason):
                raise PayloadError(f"instance {new.instance_id!r} was not started: {reason}")
            case _:
                raise BackendError(f"instance {new.instance_id!r}: the store answered {answer!r}")

    async def _tell_the_parent(self, new: NewInstance) -> NewInstance:
        """What is replaced may be somebody's child: its parent is to hear of the end."""
        ref = InstanceRef(instance_id=new.instance_id)
        view, _ = await self._gets.submit(ref)
        if view is None or view.parent is None:
            return new
        return replace(new, replaces=_replaced(new.instance_id, view.parent, self.clock.now_us()))

    async def _created(self, new: NewInstance) -> tuple[Any, int]:
        for worker in self.nearby:
            lease = worker.lease_for(new)
            if lease is not None:
                leased = replace(new, lease=lease)
                asked = self._creates.submit(leased)
                # The worker has to hear of it even if nobody here waits any more: a future of its own for the latter.
                mine = asyncio.get_running_loop().create_future()
                asked.add_done_callback(partial(_answered, worker, leased, mine))
                return cast(tuple[Any, int], await mine)
        return await self._creates.submit(new)

    def _new_instance(
        self,
        workflow: Workflow[..., Any] | str,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        id: str | None,
        queue: str | None,
        version: str | None,
        start_at: datetime | None,
        tags: Mapping[str, str] | None,
        if_exists: IfExists,
        timeout: float | timedelta | None,
    ) -> NewInstance:
        definition = _definition_of(workflow)
        name = definition.name if definition is not None else cast(str, workflow)
        if if_exists not in ("fail", "use", "replace"):
            raise ValueError(f"if_exists must be 'fail', 'use' or 'replace', not {if_exists!r}")
        payload = self._arguments(name, definition, args, kwargs)
        run_id = new_run_id()
        limit = seconds(timeout, "timeout")
        if limit is None and definition is not None:
            limit = definition.timeout_seconds
        start_us = None if start_at is None else micros_of(start_at)
        now_us = self.clock.now_us()
        queue = queue or (definition.queue if definition is not None else None) or "default"
        version = (
            str(version) if version is not None else (definition.version if definition is not None else "")
        )
        instance_id = _id_of(id) if id is not None else run_id
        headers = dict(self.propagation.headers({}))
        self.hooks.on_start(name, instance_id, headers)
        started = RunStarted(
            time_us=max(now_us, start_us or 0),
            workflow=name,
            args=payload,
            queue=queue,
            version=version,
            headers=headers,
        )
        return NewInstance(
            instance_id=instance_id,
            run_id=run_id,
            workflow=name,
            version=version,
            queue=queue,
            events=(encode_event(started),),
            head=Head(number=1, token=first_token(run_id)),
            tags=_tags_of(tags),
            if_exists=if_exists,
            replaces=_replaced(id, None, now_us) if id is not None and if_exists == "replace" else None,
            start_at_us=start_us,
            timeout_us=None if limit is None else round(limit * 1e6),
        )

    def _arguments(
        self,
        name: str,
        definition: WorkflowDefinition | None,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
    ) -> str:
        what = f"workflow {name!r}"
        if definition is None:
            return self.arguments(what, args, kwargs)
        return self.converter.encode_args(definition.signature, args, kwargs, what)

    def arguments(self, what: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
        """Arguments of something whose signature is not known here: plain JSON values. Raises `PayloadError`."""
        return self.converter.encode_args(CallSignature(_anything), args, kwargs, what)

    async def fork(
        self, view: InstanceView, at: int, id: str | None, definition: WorkflowDefinition | None
    ) -> Instance[Any]:
        """See `Instance.fork`."""
        fork = await read_fork(self, view, at, None if id is None else _id_of(id))
        new, checkpoint = fork.instance()
        made = await self._create(new, view.workflow)
        if checkpoint is not None:
            verdict, _ = await self._commits.submit(checkpoint)
            if not is_accepted(verdict):
                raise BackendError(f"instance {made.id!r} was forked without its activities: {verdict!r}")
        return Instance(self, made.id, made.run_id, definition)

    # --- looking --------------------------------------------------------------------------------------------------

    @overload
    def get_instance(self, id: str, run_id: str | None = None) -> Instance[Any]: ...

    @overload
    def get_instance(
        self, id: str, run_id: str | None = None, *, workflow: Workflow[..., R]
    ) -> Instance[R]: ...

    def get_instance(
        self, id: str, run_id: str | None = None, *, workflow: Workflow[..., Any] | None = None
    ) -> Instance[Any]:
        """A handle to an instance (or one run of it), without I/O. ``workflow`` makes its result typed."""
        definition = None if workflow is None else workflow.definition
        return Instance(self, _id_of(id), run_id, definition, follows=run_id is None)

    async def list_instances(
        self,
        *,
        workflow: Workflow[..., Any] | str | None = None,
        status: str | list[str] | tuple[str, ...] | None = None,
        state: State | list[State] | tuple[State, ...] | None = None,
        tags: Mapping[str, str] | None = None,
        created_after: datetime | None = None,
        order: Literal["newest", "oldest"] = "newest",
        limit: int = 100,
        cursor: str | None = None,
    ) -> Page:
        """A page of instances that match every filter given (``tags``: as a subset), with ``.items`` and ``.cursor``.

        Raises ``ValueError`` for filters that make no sense and for a cursor that is none.
        """
        if order not in ("newest", "oldest"):
            raise ValueError(f"order must be 'newest' or 'oldest', not {order!r}")
        if not isinstance(limit, int) or not 1 <= limit <= 1000:
            raise ValueError(f"limit is a whole number from 1 to 1000, not {limit!r}")
        wanted = (state,) if isinstance(state, str) else tuple(state or ())
        unknown = set(wanted) - OPEN_STATES - CLOSED_STATES
        if unknown:
            known = ", ".join(sorted(OPEN_STATES | CLOSED_STATES))
            raise ValueError(f"there is no state {sorted(unknown)[0]!r}; there are {known}")
        definition = _definition_of(workflow) if workflow is not None else None
        asked = Filter(
            workflow=definition.name if definition else cast(str | None, workflow),
            status=(status,) if isinstance(status, str) else tuple(status or ()),
            states=wanted,
            tags=_tags_of(tags),
            created_after_us=None if created_after is None else micros_of(created_after),
            newest_first=order == "newest",
            cursor=None if cursor is None else Page.read_cursor(cursor),
            limit=limit,
        )
        answer = await self.store.find(asked)
        return Page.of([description_of(view, self.converter) for view in answer.items], limit)

    async def stats(self) -> Stats:
        """Counts: instances by state, activity tasks and ready workflow tasks by queue."""
        return await self.store.stats()

    async def purge(
        self,
        older_than: float | timedelta,
        *,
        state: State | Sequence[State] = (
            "completed",
            "failed",
            "cancelled",
            "terminated",
            "continued_as_new",
        ),
        batch: int = 100,
    ) -> int:
        """Forget finished runs that ended longer ago than ``older_than`` (seconds or ``timedelta``); says how many.

        Works in batches of ``batch`` runs, each a transaction of its own, so that it can run beside live work.
        """
        states: tuple[State, ...] = (state,) if isinstance(state, str) else tuple(state)
        unknown = set(states) - CLOSED_STATES
        if unknown or not states:
            raise ValueError(
                f"only finished runs can be purged ({', '.join(sorted(CLOSED_STATES))}), not {state!r}"
            )
        if isinstance(batch, bool) or not isinstance(batch, int) or batch < 1:
            raise ValueError(f"batch is a whole number of at least 1, not {batch!r}")
        age_us = round((seconds(older_than, "older_than") or 0.0) * 1e6)
        purged = 0
        while True:
            before_us = self.clock.now_us() - age_us
            answer = await self.store.purge(Purge(closed_before_us=before_us, states=states, limit=batch))
            self.clock.hear(answer.now_us)
            purged += len(answer.items)
            if not answer.items:  # a batch is also short where somebody holds a run, which then stays
                return purged

    async def audit(self, *, repair: bool = False) -> Sequence[Finding]:
        """Look for broken invariants in the whole store; with ``repair`` mend what can be. Empty is healthy.

        First the store looks at its rows, then each unfinished run's history is compared with what the store holds of
        it: whether an instance waits for what will never come. Runs beside live work; reads in bounded pages.
        """
        found = list((await self.store.audit(repair=repair)).items)
        broken = [(one.instance_id, one.run_id) for one in found if not one.repaired]
        async for page in Audit(self.store, self.converter, repair=repair).pages(leave_out=broken):
            found += page
        return found

    async def export_history(self, id: str, run_id: str | None = None) -> str:
        """The history of an instance's run as text, for `durable.testing.replay` and for keeping.

        Raises `InstanceNotFound`; `BackendError` if the store does not answer, or not with all of it.
        """
        view = await self.view(InstanceRef(instance_id=id, run_id=run_id))
        return history_text(view, await self.events(view))

    # --- activities that are finished from elsewhere ----------------------------------------------------------------

    async def complete_activity(self, token: str, result: Any = None) -> None:
        """Finish an activity that said `complete_later`, with this result: plain JSON, or what its type encodes.

        Saying the same again is harmless. Raises `InstanceFinished` if the activity came to something else, or nobody
        waits for it any more; ``ValueError`` for what is no token.
        """
        annotation = Any if type(result) in (str, int, float, bool, type(None), list, dict) else type(result)
        payload = self.converter.encode(result, annotation, "result of an activity")
        await self._finish(token, messages.ACTIVITY_COMPLETED, lambda n: messages.completed_body(n, payload))

    async def fail_activity(self, token: str, error: BaseException) -> None:
        """Let an activity that said `complete_later` fail for good, with this exception.

        Raises like `complete_activity`.
        """
        failure = self.converter.seal(failure_of(error).to_text())
        await self._finish(token, messages.ACTIVITY_FAILED, lambda n: messages.failed_body(n, failure))

    async def _finish(self, token: str, kind: str, body: Any) -> None:
        _refuse_to_wait_for_oneself()
        ref, secret = _parked(token)
        outcome = ActivityFinished(ref=ref, token=secret, kind=kind, body=body(ref.number))
        verdict, _ = await self._finishes.submit(outcome)
        if isinstance(verdict, Refused):
            raise PayloadError(f"activity of instance {ref.instance_id!r}: {verdict.reason}")
        if not is_accepted(verdict):
            await demand_told_before(self.store, self.converter, outcome)

    # --- what instances need ----------------------------------------------------------------------------------------

    async def view(self, ref: InstanceRef) -> InstanceView:
        """A run as the store has it. Raises `InstanceNotFound`."""
        view, now_us = await self._gets.submit(ref)
        self.clock.hear(now_us)
        if view is None:
            raise not_found(ref)
        return view

    async def events(self, view: InstanceView) -> Sequence[bytes]:
        """The history of a run up to the head of this view, whole. Raises `InstanceNotFound`, `BackendError`.

        A store gives what is there before a row that is broken or lost, or nothing of what was deleted meanwhile: that
        is never to be taken for a shorter history.
        """
        asked = HistoryRange(instance_id=view.instance_id, run_id=view.run_id)
        piece, _ = await self._reads.submit(asked)
        had, whole = len(piece.events), view.head.number
        if had < whole:
            await self.view(InstanceRef(instance_id=view.instance_id, run_id=view.run_id))
            raise BackendError(
                f"instance {view.instance_id!r}: its history has {had} events instead of {whole}"
            )
        return piece.events[:whole]

    def _transactional(self) -> TransactionStore:
        if not hasattr(self.store, "create_in"):
            raise BackendError(f"{self.store.url} has no transactions: connection= is for SQL stores")
        return cast(TransactionStore, self.store)

    async def send(self, message: NewMessage, connection: Any = None) -> None:
        """Send a message. Raises `InstanceNotFound`, `InstanceFinished`, `BackendError`."""
        if connection is not None:
            inside = await self._transactional().send_in(connection, message)
            verdict, now_us = inside.items[0], inside.now_us
        else:
            _refuse_to_wait_for_oneself()
            verdict, now_us = await self._sends.submit(message)
        self.clock.hear(now_us)
        demand(verdict, InstanceRef(instance_id=message.instance_id, run_id=message.run_id))

    async def try_change(self, change: Change) -> Verdict:
        """Change an instance, and give the store's verdict. Raises `BackendError`."""
        _refuse_to_wait_for_oneself()
        verdict, now_us = await self._changes.submit(change)
        self.clock.hear(now_us)
        return verdict

    async def try_delete(self, ref: InstanceRef) -> Verdict:
        """Forget an instance, and give the store's verdict. Raises `BackendError`."""
        _refuse_to_wait_for_oneself()
        verdict, now_us = await self._deletes.submit(ref)
        self.clock.hear(now_us)
        return verdict

    async def ask(self, question: Question) -> Ticket | NotFound:
        """Put a question. Raises `BackendError`."""
        return (await self._asks.submit(question))[0]

    async def reply(self, ticket: Ticket) -> Reply | None:
        """The answer to a question or an update, if it is there. Raises `BackendError`."""
        return (await self._replies.submit(ticket))[0]

    def signal_message(self, id: str, signal: Signal[Any] | str, value: Any, key: str | None) -> NewMessage:
        """The message that a signal is, for the current run, whoever it is. Raises `PayloadError`."""
        name, payload = signal_payload(self.converter, signal, value)
        self.hooks.on_signal(id, name)
        return NewMessage(
            instance_id=id,
            key=f"user/{key}" if key is not None else f"auto/{new_token()}",
            kind=messages.SIGNAL,
            body=messages.signal_body(name, payload),
        )

    async def close(self) -> None:
        """Wait for what is under way, then let go of the store."""
        await self.waiting.close()
        for batches in (self._creates, self._sends, self._changes, self._gets, self._finishes):
            await batches.idle()
        for others in (self._commits, self._deletes, self._reads, self._asks, self._replies):
            await others.idle()
        await self.store.close()


@contextlib.asynccontextmanager
async def connect(
    url: str | None = None,
    *,
    codec: Codec | None = None,
    max_payload: int = MAX_PAYLOAD_BYTES,
    context: Iterable[ContextVar[Any]] = (),
    hooks: Iterable[Hooks] = (),
    **settings: Any,
) -> AsyncIterator[Client]:
    """Connect to a store: ``async with durable.connect("sqlite:///shop.db") as client:``.

    Without ``url``: ``DURABLE_URL``, else ``sqlite:///./durable.db``. Tables are created or migrated on first use.
    ``codec`` transforms payloads (encryption, compression); ``max_payload`` is the limit of one payload in bytes.
    ``context`` are the context variables that travel from the client to workflows, activities and children (plain JSON
    values); ``hooks`` look on (see `Hooks`).

    Raises `BackendError` with one line for a store that cannot be reached or used, ``ValueError`` for an unknown scheme
    or option.
    """
    address = Address.of(url)
    converter = Converter(codec=codec or PlainCodec(), max_payload_bytes=max_payload)
    store = await open_backend(address, settings)
    client = Client(store, converter, address.poll_seconds, Propagation(context), HookList(hooks))
    try:
        answer = await store.migrate()
        client.clock.hear(answer.now_us)
        yield client
    finally:
        await asyncio.shield(client.close())


def _answered(
    worker: Nearby,
    new: NewInstance,
    waits: asyncio.Future[tuple[Any, int]],
    done: asyncio.Future[tuple[Any, int]],
) -> None:
    if waits.done():
        pass
    elif (error := done.exception()) is not None:
        waits.set_exception(error)
    else:
        waits.set_result(done.result())
    worker.answered(new, done)


def _refuse_to_wait_for_oneself() -> None:
    """An engine call inside ``durable.transaction()`` could wait for ever for the lock that its own task holds."""
    if in_transaction.get():
        raise RuntimeError(
            "an engine call in an activity that has opened durable.transaction() would wait for its own "
            "lock, which it holds until it returns: pass connection=conn, or do it in another activity"
        )


def _replaced(id: str, parent: Parent | None, now_us: int) -> End:
    return termination(InstanceRef(instance_id=id), parent, "replaced by a new run", now_us)


def _definition_of(workflow: Workflow[..., Any] | str) -> WorkflowDefinition | None:
    if isinstance(workflow, Workflow):
        return workflow.definition
    if isinstance(workflow, str) and workflow:
        return None
    raise TypeError(f"a workflow is a function decorated with @durable.workflow, or its name: {workflow!r}")


def _id_of(id: object) -> str:
    return check_id(id, "the id of an instance")


def _tags_of(tags: Mapping[str, str] | None) -> dict[str, str]:
    found = dict(tags or {})
    for name, value in found.items():
        if not isinstance(name, str) or not isinstance(value, str):
            raise TypeError(f"tags are texts by text, not {name!r}: {value!r}")
    return found


def _parked(token: str) -> tuple[ActivityRef, str]:
    """The activity and secret of a `complete_later` token. The instance id comes last: it may hold anything."""
    parts = token.split(".", 3) if isinstance(token, str) else []
    if len(parts) != 4 or not parts[1].isdigit():
        raise ValueError("this is no token of durable.complete_later()")
    run_id, number, secret, instance_id = parts
    return ActivityRef(instance_id=instance_id, run_id=run_id, number=int(number)), secret


async def _anything(*args: Any, **kwargs: Any) -> Any:
    """The signature of a workflow that is known by name only."""
