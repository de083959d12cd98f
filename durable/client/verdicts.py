"""What a store's verdict means to the caller: nothing, or one of the errors of `durable.errors`."""

from __future__ import annotations

from durable.backends.records import Accepted, Finished, Full, InstanceRef, NotFound, Paused, Refused, Verdict
from durable.errors import BackendError, DurableError, InstanceFinished, InstanceNotFound, PayloadError


def is_accepted(verdict: Verdict) -> bool:
    """Whether it was done."""
    return isinstance(verdict, Accepted | Paused)


def demand(verdict: Verdict, ref: InstanceRef) -> None:
    """Raise what a verdict other than "done" means for instance ``ref``."""
    if is_accepted(verdict):
        return
    match verdict:
        case NotFound():
            raise not_found(ref)
        case Finished(state=state):
            raise InstanceFinished(f"instance {ref.instance_id!r} has finished ({state})")
        case Full():
            raise BackendError(f"instance {ref.instance_id!r} has too many unread messages: try again later")
        case Refused(reason=reason):
            raise PayloadError(f"instance {ref.instance_id!r}: {reason}")
        case _:
            raise DurableError(f"instance {ref.instance_id!r}: the store answered {verdict!r}")


def not_found(ref: InstanceRef) -> InstanceNotFound:
    """The error for an instance, or a run of it, that is not there."""
    run = f" has no run {ref.run_id!r}" if ref.run_id else " does not exist"
    return InstanceNotFound(f"instance {ref.instance_id!r}{run}")
