"""The replayer: a stored history against the present code, without a store, a worker or any effect.

It is the engine's own replay, with a report for people: what history holds around the place, what the code asked for
instead, and the line that asked. It does not go on where the history ends; whether a run would *finish* is no matter
of replay.
"""

from __future__ import annotations

import asyncio
import linecache
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, TypeVar

import orjson

from durable.client.instance import HistoryEvent
from durable.core import guards
from durable.core.context import RunIdentity
from durable.core.definition import WorkflowDefinition
from durable.core.divergence import differs, in_another_order
from durable.core.events import KINDS, Event, RunStarted
from durable.core.failure import known_exceptions
from durable.core.history import check, decode_history
from durable.core.hooks import Propagation
from durable.core.payload import MAX_PAYLOAD_BYTES, Codec, Converter, PlainCodec
from durable.core.replay import Run, load
from durable.core.watchdog import StepTooLong, Watchdog
from durable.errors import NonDeterminismError
from durable.primitives.info import time_of
from durable.primitives.workflow import Workflow

T = TypeVar("T")

BEFORE, BEHIND = 4, 2
"""How many events a report shows before the place where code and history part, and behind it."""
WIDTH = 160
FORMAT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class _Recorded:
    """A history with what is known of its run."""

    events: Sequence[Event]
    identity: RunIdentity
    workflow: str
    begun: bool | None = None
    open_ended: bool = False


def replay(
    workflow: Workflow[..., Any],
    history: str | bytes | Iterable[bytes | str | Event | HistoryEvent],
    *,
    instance_id: str = "replayed",
    run_id: str = "replayed",
    codec: Codec | None = None,
    max_payload: int = MAX_PAYLOAD_BYTES,
    same_code: bool = False,
    step_timeout: float | None = None,
    context: Iterable[ContextVar[Any]] = (),
) -> None:
    """Run ``workflow`` over a history and compare everything it asks for with what was recorded.

    ``history`` is the text of ``client.export_history(id)``, or the events of the run: stored lines, records, or what
    ``instance.history()`` gives. Only the text says whose history it is; for events, ``run_id`` and ``instance_id`` do
    (the order of sets and the run's random numbers come from the run id). ``codec``, ``max_payload`` and ``context``
    are those of the `durable.connect` that the worker had. May be called from inside of a running loop, which it blocks
    meanwhile.

    Another argument in the same place is no divergence, since code may change what it sends; the same arguments in
    another order are one, for that is what iterating a set of strings comes to. With ``same_code`` every other
    argument, delay or result is one: for a history that this very code made, in this process or in another.

    Raises `NonDeterminismError` where code and history part, ``ValueError`` for what is no history (or that of another
    workflow), `PayloadError` if the run's arguments do not fit the workflow any more, ``TimeoutError`` when the code
    goes on for ``step_timeout`` seconds without awaiting anything new (default: it may go on for ever).
    """
    if not isinstance(workflow, Workflow):
        raise TypeError(f"replay takes a function decorated with @durable.workflow, not {workflow!r}")
    recorded = _recorded(history, RunIdentity(instance_id=instance_id, run_id=run_id, first_run_id=run_id))
    definition = workflow.definition
    if recorded.workflow != definition.name:
        raise ValueError(f"this is a history of workflow {recorded.workflow!r}, not of {definition.name!r}")
    converter = Converter(codec=codec or PlainCodec(), max_payload_bytes=max_payload)
    propagation = Propagation(context)
    with _watched(step_timeout) as watchdog:
        _beside_any_loop(lambda: _replayed(definition, recorded, converter, propagation, same_code, watchdog))


@contextmanager
def _watched(step_timeout: float | None) -> Iterator[Watchdog | None]:
    if step_timeout is None:
        yield None
        return
    watchdog = Watchdog(report_after=step_timeout, interrupt_after=step_timeout)
    watchdog.start()  # in the first step it would be a thread that a workflow starts
    try:
        yield watchdog
    except StepTooLong:
        raise TimeoutError(
            f"a step of the workflow went on for more than {step_timeout} s; a workflow must not compute for long or "
            "block: move such work into an activity"
        ) from None
    finally:
        watchdog.close()


def _replayed(
    definition: WorkflowDefinition,
    recorded: _Recorded,
    converter: Converter,
    propagation: Propagation,
    same_code: bool,
    watchdog: Watchdog | None,
) -> None:
    guards.install()
    try:
        run = load(
            definition,
            recorded.identity,
            recorded.events,
            converter=converter,
            known=known_exceptions(),
            propagation=propagation,
            watchdog=watchdog,
            begun=recorded.begun,
            open_ended=recorded.open_ended,
            compare=True,
        )
        run.drop()
        _judge(run, converter, same_code)
    except NonDeterminismError as error:
        raise _reported(error, recorded.events) from None


def _judge(run: Run, converter: Converter, same_code: bool) -> None:
    """Raise for arguments that differ, where that is a mistake."""
    read = converter.unseal
    found, reason = in_another_order(run.differences, read), _REORDERED
    if found is None and same_code and run.differences:
        found, reason = run.differences[0], _NOT_THE_SAME
    if found is not None:
        raise differs(run.identity.instance_id, run.definition.name, found, reason, read)


_REORDERED = (
    "The same arguments came in another order. Strings hash differently in every process, so look for the iteration of "
    "a set (or of what was made of one), and sort it: `for x in sorted(...)`."
)
_NOT_THE_SAME = (
    "The same code sent something else: it is not deterministic. Look for a clock or randomness from a C extension, "
    "os.environ, id(), hash(), the order of a set, and state that outlives the run."
)


def _beside_any_loop(call: Callable[[], T]) -> T:
    """Runs are driven from plain code; where a loop runs already, a thread of its own is plain enough."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return call()
    with ThreadPoolExecutor(1, thread_name_prefix="durable-replay") as threads:
        return threads.submit(call).result()


# --- reading ------------------------------------------------------------------------------------------------------


def _recorded(history: Any, identity: RunIdentity) -> _Recorded:
    if isinstance(history, bytes):
        history = history.decode()
    if isinstance(history, str):
        history = [line for line in history.split("\n") if line.strip()]
    items = list(history)
    header = _header(items[0]) if items else None
    if header is not None:
        del items[0]
        identity = _identity(header)
    events = _events(items)
    check(events)
    first = events[0]
    assert isinstance(first, RunStarted)
    begun = None if header is None else header.get("begun")
    open_ended = header is not None and bool(header.get("open"))
    return _Recorded(
        events=events, identity=identity, workflow=first.workflow, begun=begun, open_ended=open_ended
    )


def _header(line: object) -> dict[str, Any] | None:
    """The first line of an exported history; ``None`` for an event."""
    if not isinstance(line, str | bytes):
        return None
    try:
        data = orjson.loads(line)
    except ValueError:
        raise ValueError(f"this is no history: its first line is {line[:80]!r}") from None
    if not isinstance(data, dict) or "kind" in data:
        return None
    if data.get("format") != FORMAT or "run_id" not in data:
        raise ValueError(f"this is no history that this release can read: its first line is {line[:80]!r}")
    return data


def _identity(header: dict[str, Any]) -> RunIdentity:
    run_id, parent = header["run_id"], header.get("parent")
    return RunIdentity(
        instance_id=header.get("instance_id", run_id),
        run_id=run_id,
        first_run_id=header.get("first_run_id") or run_id,
        parent=None if parent is None else (parent[0], parent[1]),
    )


def _events(items: Sequence[object]) -> list[Event]:
    if all(isinstance(item, Event) for item in items):
        return [item for item in items if isinstance(item, Event)]
    if all(isinstance(item, HistoryEvent) for item in items):
        return [_event_of(item) for item in items if isinstance(item, HistoryEvent)]
    if all(isinstance(item, str | bytes) for item in items):
        return decode_history(
            item.encode() if isinstance(item, str) else item
            for item in items
            if isinstance(item, str | bytes)
        )
    raise ValueError(
        "a history is the text of export_history, or a list of stored events (all of the same sort)"
    )


def _event_of(shown: HistoryEvent) -> Event:
    return KINDS[shown.kind](time_us=_micros(shown), **shown.fields)


def _micros(shown: HistoryEvent) -> int:
    return round((shown.time - time_of(0)).total_seconds() * 1e6)


# --- the report ---------------------------------------------------------------------------------------------------


def _reported(error: NonDeterminismError, history: Sequence[Event]) -> NonDeterminismError:
    """The same error, its message with a diff behind it."""
    return NonDeterminismError(
        f"{error}\n\n{_diff(error, history)}",
        expected=error.expected,
        actual=error.actual,
        file=error.file,
        line=error.line,
        event=error.event,
        task=error.task,
        arguments=error.arguments,
    )


def _diff(error: NonDeterminismError, history: Sequence[Event]) -> str:
    place = error.event
    shown = range(max(1, place - BEFORE), min(len(history), place + BEHIND) + 1)
    lines = [_line(" " if number != place else "-", number, history[number - 1]) for number in shown]
    ours = f"+ {place:>5}  {error.actual}"
    lines.insert(sum(number <= place for number in shown), ours)
    source = linecache.getline(error.file, error.line).strip() if error.file else ""
    if source:
        lines += ["", f"{error.file}:{error.line}", f"    {source}"]
    return "\n".join(["- what history holds, + what the code asked for", *lines])


def _line(sign: str, number: int, event: Event) -> str:
    fields = ", ".join(
        f"{name}={getattr(event, name)!r}"
        for name in type(event).__dataclass_fields__
        if name not in ("kind", "time_us") and getattr(event, name) not in (None, {}, (), "", False)
    )
    text = f"{sign} {number:>5}  {event.kind} {fields}".rstrip()
    return text if len(text) <= WIDTH else f"{text[: WIDTH - 3]}..."
