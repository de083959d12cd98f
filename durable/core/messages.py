"""Bodies of messages: how what arrives in an inbox is written, and which input it becomes."""

from __future__ import annotations

from typing import Any

import orjson

from durable.core import events
from durable.core.events import Input, NewerFormat

FORMAT = 1
"""The newest format of messages that this release understands, and the one that it writes."""
FIRST_FORMAT = 1
"""The format of a body that names none."""

SIGNAL = "signal"
CANCEL = "cancel"
UPDATE = "update"
ACTIVITY_COMPLETED = "activity_completed"
ACTIVITY_FAILED = "activity_failed"
CHILD_CLOSED = "child_closed"
OUTCOME = "outcome"

PARENT_CANCELLED = "its parent was cancelled"
"""Why the engine itself asks a child to cancel. Nobody waits for the outcome of that message."""


def signal_body(name: str, payload: str) -> str:
    return _message({"name": name, "payload": payload})


def cancel_body(reason: str | None) -> str:
    return _message({"reason": reason})


def update_body(name: str, args: str) -> str:
    return _message({"name": name, "args": args})


def completed_body(number: int, result: str) -> str:
    return _message({"number": number, "result": result})


def failed_body(number: int, failure: str) -> str:
    return _message({"number": number, "failure": failure})


def child_closed_body(number: int, state: str, result: str | None, failure: str | None) -> str:
    return _message({"number": number, "state": state, "result": result, "failure": failure})


def answer_body(result: str | None, failure: str | None, *, rejected: bool = False) -> str:
    """The answer to a query or an update: a payload, or what it raised; ``rejected``: nothing was done."""
    return _body({"result": result, "failure": failure, "rejected": rejected})


def reason_failure(reason: str | None) -> str:
    """How the reason of a cancellation or termination is kept."""
    return _body({"reason": reason})


def reason_of(failure: str | None) -> str | None:
    """The reason in `reason_failure`."""
    if failure is None:
        return None
    reason = orjson.loads(failure).get("reason")
    return None if reason is None else str(reason)


def input_of(kind: str, body: str, key: str, time_us: int) -> Input:
    """The input that a message is.

    Raises `NewerFormat` for a kind or format of a later release, ``ValueError`` for a body that is none.
    """
    if kind == OUTCOME:
        return _outcome(body, time_us)
    data = orjson.loads(body)
    if not isinstance(data, dict):
        raise ValueError("the body of a message is a JSON object")
    if (written := data.pop("format", FIRST_FORMAT)) > FORMAT:
        raise NewerFormat(f"a message {kind!r} of format {written}; this release knows {FORMAT} at most")
    try:
        match kind:
            case "signal":
                return events.SignalReceived(time_us=time_us, key=key, **data)
            case "cancel":
                return events.CancelRequested(time_us=time_us, **data)
            case "update":
                return events.UpdateRequested(time_us=time_us, key=key, **data)
            case "activity_completed":
                return events.ActivityCompleted(time_us=time_us, **data)
            case "activity_failed":
                return events.ActivityFailed(time_us=time_us, **data)
            case "child_closed":
                return events.ChildClosed(time_us=time_us, **data)
            case _:
                raise NewerFormat(f"a message of the unknown kind {kind!r}")
    except TypeError as error:
        raise NewerFormat(
            f"a message {kind!r} with fields that this release does not know: {error}"
        ) from None


def _outcome(body: str, time_us: int) -> Input:
    number, _, word = body.partition(" ")
    if word == "started":
        return events.ChildStarted(time_us=time_us, number=int(number))
    if word == "taken":
        return events.ChildRefused(time_us=time_us, number=int(number))
    return events.SendResolved(time_us=time_us, number=int(number), outcome=word)


def _message(data: dict[str, Any]) -> str:
    return _body(data if FORMAT == FIRST_FORMAT else {**data, "format": FORMAT})


def _body(data: dict[str, Any]) -> str:
    return orjson.dumps(data).decode()
