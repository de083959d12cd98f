"""How runs end, in the words of the contract: by their own code, and from outside without it."""

from __future__ import annotations

from durable.backends.records import Close, End, InstanceRef, Parent, State
from durable.core import messages
from durable.core.events import RunTerminated, RunTimedOut, encode_event
from durable.core.failure import failure_of
from durable.core.ids import new_token
from durable.core.payload import Converter


def close_of(
    parent: Parent | None, state: State, *, result: str | None = None, failure: str | None = None
) -> Close:
    """How a run ends, with the message that its parent (if any) gets."""
    body = None
    if parent is not None:
        body = messages.child_closed_body(parent.number, state, result, failure)
    return Close(state=state, result=result, failure=failure, parent_body=body)


def termination(ref: InstanceRef, parent: Parent | None, reason: str | None, now_us: int) -> End:
    """The change that terminates a run."""
    return End(
        ref=ref,
        event=encode_event(RunTerminated(time_us=now_us, reason=reason)),
        token=new_token(),
        close=close_of(parent, "terminated", failure=messages.reason_failure(reason)),
        reason=reason,
    )


def time_out(ref: InstanceRef, parent: Parent | None, now_us: int, converter: Converter) -> End:
    """The change that ends a run whose instance did not end within its timeout."""
    error = TimeoutError(f"instance {ref.instance_id!r} did not end within its timeout")
    failure = converter.seal(failure_of(error).to_text())
    return End(
        ref=ref,
        event=encode_event(RunTimedOut(time_us=now_us)),
        token=new_token(),
        close=close_of(parent, "failed", failure=failure),
        reason="timeout",
    )
