"""What happened to a run: one frozen record per event, and their stored form.

An event's number is its place in the history, from 1; it is not part of the record. *Inputs* are what the world did to
the run: each is applied, the run goes on until it is blocked, and what it asked for is written behind as *decisions*.
An input and its decisions are one *turn*. ``number`` fields are those of the command that the event belongs to.

    input               what it means                                      answers
    RunStarted          the first event: workflow, arguments, unread signals
    ActivityCompleted   an activity returned                               ActivityScheduled
    ActivityFailed      an activity failed for good                        ActivityScheduled
    TimerFired          a timer is due                                     TimerStarted
    SignalReceived      a signal arrived
    CancelRequested     somebody asks the run to cancel
    ChildStarted        a child exists now                                 ChildScheduled
    ChildRefused        the child's id was taken                           ChildScheduled
    ChildClosed         a child ended                                      ChildScheduled
    SendResolved        a message to another instance arrived, or not      SignalSent, CancelSent
    UpdateRequested     somebody calls an update

    decision            what the run asked for                             answered by
    ActivityScheduled   run an activity                                    ActivityCompleted, ActivityFailed
    ActivityCancelled   nobody waits for the activity any more
    TimerStarted        wake me at a time                                  TimerFired
    TimerCancelled      do not wake me
    ChildScheduled      start another instance                             ChildStarted or ChildRefused, ChildClosed
    SignalSent          send a signal to another instance                  SendResolved
    CancelSent          ask another instance to cancel                     SendResolved
    SideEffectRecorded  the value of a side effect, or what it raised
    PatchesRecorded     which ``patched`` the code that began the run knew
    UpdateFinished      an update's answer
    RunCompleted, RunFailed, RunCancelled, RunContinued                    (the last event)

    RunTerminated and RunTimedOut are written from outside as the last event, without running any code.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import Field, field, fields
from operator import attrgetter
from typing import Any, ClassVar

from orjson import dumps, loads

from durable.core.light_records import blank, dataclass
from durable.errors import DurableError

FORMAT = 1
"""The newest history format that this release understands. `RunStarted` carries the one it was written in."""
FIRST_FORMAT = 1
"""The format of an event that names none. A later release names its own: an older one would take it for this."""


class NewerFormat(DurableError):
    """Written by a newer release: leave it to a worker that understands it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened at ``time_us`` (microseconds since the epoch, the store's clock)."""

    kind: ClassVar[str] = ""
    time_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Input(Event):
    """What the world did to the run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision(Event):
    """What the run asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStarted(Input):
    kind: ClassVar[str] = "run_started"
    workflow: str
    args: str
    queue: str
    format: int = FORMAT
    version: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    signals: tuple[tuple[str, str], ...] = ()
    """Signals that the run before had not read: (name, payload), in order."""
    updates: tuple[tuple[str, str, str], ...] = ()
    """Updates that the run before had not finished: (key, name, arguments), in order."""
    previous_run_id: str | None = None
    seed: str | None = None
    """In a fork: the run whose random numbers and hashes its history was made with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ActivityCompleted(Input):
    kind: ClassVar[str] = "activity_completed"
    number: int
    result: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ActivityFailed(Input):
    kind: ClassVar[str] = "activity_failed"
    number: int
    failure: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TimerFired(Input):
    kind: ClassVar[str] = "timer_fired"
    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalReceived(Input):
    kind: ClassVar[str] = "signal_received"
    name: str
    payload: str
    key: str | None = None
    held: bool = False
    """Buffered together with the next event, which people sent too: no code ran in between."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelRequested(Input):
    kind: ClassVar[str] = "cancel_requested"
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildStarted(Input):
    kind: ClassVar[str] = "child_started"
    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildRefused(Input):
    kind: ClassVar[str] = "child_refused"
    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildClosed(Input):
    kind: ClassVar[str] = "child_closed"
    number: int
    state: str
    result: str | None = None
    failure: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SendResolved(Input):
    kind: ClassVar[str] = "send_resolved"
    number: int
    outcome: str


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateRequested(Input):
    kind: ClassVar[str] = "update_requested"
    key: str
    name: str
    args: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ActivityScheduled(Decision):
    kind: ClassVar[str] = "activity_scheduled"
    number: int
    name: str
    args: str
    queue: str
    options: str = "{}"
    """How it is to be run, so that a task that was lost can be made again without the code."""


def activity_scheduled(
    time_us: int, number: int, name: str, args: str, queue: str, options: str
) -> ActivityScheduled:
    """The record, quickly."""
    made = blank(ActivityScheduled)
    made.time_us = time_us
    made.number = number
    made.name = name
    made.args = args
    made.queue = queue
    made.options = options
    return made  # type: ignore[no-any-return]


@dataclass(frozen=True, slots=True, kw_only=True)
class ActivityCancelled(Decision):
    kind: ClassVar[str] = "activity_cancelled"
    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TimerStarted(Decision):
    kind: ClassVar[str] = "timer_started"
    number: int
    due_us: int
    name: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TimerCancelled(Decision):
    kind: ClassVar[str] = "timer_cancelled"
    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildScheduled(Decision):
    kind: ClassVar[str] = "child_scheduled"
    number: int
    workflow: str
    instance_id: str
    run_id: str
    args: str
    queue: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalSent(Decision):
    kind: ClassVar[str] = "signal_sent"
    number: int
    instance_id: str
    name: str
    payload: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelSent(Decision):
    kind: ClassVar[str] = "cancel_sent"
    number: int
    instance_id: str
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SideEffectRecorded(Decision):
    kind: ClassVar[str] = "side_effect_recorded"
    number: int
    value: str
    failure: str | None = None
    """What it raised instead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PatchesRecorded(Decision):
    kind: ClassVar[str] = "patches_recorded"
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateFinished(Decision):
    kind: ClassVar[str] = "update_finished"
    number: int
    key: str
    result: str | None = None
    failure: str | None = None
    rejected: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RunCompleted(Decision):
    kind: ClassVar[str] = "run_completed"
    result: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFailed(Decision):
    kind: ClassVar[str] = "run_failed"
    failure: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunCancelled(Decision):
    kind: ClassVar[str] = "run_cancelled"
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunContinued(Decision):
    kind: ClassVar[str] = "run_continued"
    run_id: str
    args: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunTerminated(Decision):
    kind: ClassVar[str] = "run_terminated"
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunTimedOut(Decision):
    kind: ClassVar[str] = "run_timed_out"


_CLASSES: tuple[type[Event], ...] = (
    RunStarted, ActivityCompleted, ActivityFailed, TimerFired, SignalReceived, CancelRequested, ChildStarted,
    ChildRefused, ChildClosed, SendResolved, UpdateRequested, ActivityScheduled, ActivityCancelled, TimerStarted,
    TimerCancelled, ChildScheduled, SignalSent, CancelSent, SideEffectRecorded, PatchesRecorded, UpdateFinished,
    RunCompleted, RunFailed, RunCancelled, RunContinued, RunTerminated, RunTimedOut,
)  # fmt: skip
KINDS: Mapping[str, type[Event]] = {cls.kind: cls for cls in _CLASSES}
OUTSIDE_ENDINGS = (RunTerminated, RunTimedOut)
_BASE_WEIGHT = 60  # kind, time, number, and what JSON needs

_TUPLES = {"signals", "updates", "names"}
"""Fields that JSON gives back as lists."""


def _left_out(field: Field[Any]) -> Any:
    """The value that is not written."""
    if field.name == "format":
        return FIRST_FORMAT
    return {} if field.default_factory is dict else field.default


_WITH_TUPLES = {cls.kind for cls in _CLASSES if _TUPLES & {f.name for f in fields(cls)}}
_FIELDS: dict[type[Event], tuple[tuple[str, Any], ...]] = {
    cls: tuple((f.name, _left_out(f)) for f in fields(cls) if f.name != "time_us") for cls in _CLASSES
}

_VALUES: dict[type[Event], attrgetter[tuple[Any, ...]]] = {
    cls: attrgetter(*(name for name, _ in known), "time_us", "time_us") for cls, known in _FIELDS.items()
}
"""The values of those fields. (The time stands behind them because an `attrgetter` of one name gives no tuple.)"""

_TEXTS: dict[type[Event], tuple[str, ...]] = {
    cls: tuple(f.name for f in fields(cls) if f.type in ("str", "str | None")) for cls in _CLASSES
}
"""Which fields hold a text, or nothing."""


def weight(event: Event) -> int:
    """About how many bytes an event takes: the same whether it just happened or is replayed, and cheap to know."""
    if type(event) is ActivityCompleted:
        return _BASE_WEIGHT + len(event.result)
    if type(event) is ActivityScheduled:
        return _BASE_WEIGHT + len(event.name) + len(event.args) + len(event.queue) + len(event.options)
    if type(event) is RunCompleted:
        return _BASE_WEIGHT + len(event.result)
    if type(event) is RunStarted:
        return _weight_of_start(event)
    total = _BASE_WEIGHT
    for name in _TEXTS[type(event)]:
        if text := getattr(event, name):
            total += len(text)
    return total


def _weight_of_start(event: RunStarted) -> int:
    total = _BASE_WEIGHT + len(event.workflow) + len(event.args) + len(event.queue) + len(event.version)
    total += len(event.previous_run_id or "") + len(event.seed or "")
    return total + sum([len(payload) for _, payload in event.signals])


def encode_event(event: Event) -> bytes:
    """The stored form: one line of JSON; fields that hold their default are left out."""
    cls = type(event)
    spelled_out = _SPELLED_OUT.get(cls)
    if spelled_out is not None:
        return _BYTES % dumps(spelled_out(event))
    stored: dict[str, Any] = {"kind": event.kind, "time": event.time_us}
    for (name, default), value in zip(_FIELDS[cls], _VALUES[cls](event), strict=False):
        if value != default:
            stored[name] = value
    return _BYTES % dumps(stored)


_BYTES = b"%b"
"""Copies: what orjson gives out lies in a buffer of 4 KiB, and lines are kept (by runs, stores, batches)."""


# --- the three kinds that nearly all of a history is made of, spelled out: a third of the time ------------------------


def _told_completed(event: Any) -> dict[str, Any]:
    return {
        "kind": "activity_completed",
        "time": event.time_us,
        "number": event.number,
        "result": event.result,
    }


def _told_scheduled(event: Any) -> dict[str, Any]:
    told = {
        "kind": "activity_scheduled",
        "time": event.time_us,
        "number": event.number,
        "name": event.name,
        "args": event.args,
        "queue": event.queue,
    }
    if event.options != "{}":
        told["options"] = event.options
    return told


def _told_ended(event: Any) -> dict[str, Any]:
    return {"kind": "run_completed", "time": event.time_us, "result": event.result}


_SPELLED_OUT: dict[type[Event], Callable[[Any], dict[str, Any]]] = {
    ActivityCompleted: _told_completed,
    ActivityScheduled: _told_scheduled,
    RunCompleted: _told_ended,
}


def _read_completed(told: Mapping[str, Any]) -> Event:
    made = blank(ActivityCompleted)
    made.time_us = told["time"]
    made.number = told["number"]
    made.result = told["result"]
    return made  # type: ignore[no-any-return]


def _read_scheduled(told: Mapping[str, Any]) -> Event:
    return activity_scheduled(told["time"], told["number"], told["name"], told["args"], told["queue"], "{}")


_QUICKLY_READ: dict[tuple[object, int], Callable[[Any], Event]] = {
    ("activity_completed", 4): _read_completed,
    ("activity_scheduled", 6): _read_scheduled,
}
"""By kind and number of fields. What lacks one of the fields has others, and is looked at more closely."""
reader_of = _QUICKLY_READ.get
"""For who reads many: from kind and number of fields to what is quicker than `event_of`. It may raise ``KeyError``."""


def decode_event(stored: bytes) -> Event:
    """The record of a stored event.

    Raises `NewerFormat` for a kind, field or format of a later release, ``ValueError`` for what is no event at all.
    """
    return event_of(loads(stored))


def event_of(data: object) -> Event:
    """`decode_event` of a line that is parsed already. ``data`` is used up."""
    try:
        return _QUICKLY_READ[data["kind"], len(data)](data)  # type: ignore[index, arg-type]
    except (KeyError, TypeError):
        pass  # it is of another kind, or something is wrong
    if not isinstance(data, dict):
        raise ValueError("an event is a JSON object")
    kind = data.get("kind", "")
    if not isinstance(kind, str):
        raise ValueError(f"the kind of an event is a text, not {kind!r:.80}")
    data.pop("kind", None)
    cls = KINDS.get(kind)
    if cls is RunStarted:
        data.setdefault("format", FIRST_FORMAT)
    if cls is None:
        raise NewerFormat(f"an event of the kind {kind!r:.80}, which this release does not know")
    if data.get("format", FIRST_FORMAT) > FORMAT:
        raise NewerFormat(
            f"an event {kind!r} of format {data['format']}; this release knows {FORMAT} at most"
        )
    if kind in _WITH_TUPLES:
        for name in _TUPLES & data.keys():
            data[name] = tuple(tuple(item) if isinstance(item, list) else item for item in data[name])
    try:
        return cls(time_us=data.pop("time"), **data)
    except (TypeError, KeyError) as error:
        raise NewerFormat(f"event {cls.kind!r} has fields that this release does not know: {error}") from None
