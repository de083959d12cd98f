"""What a store's verdict means to the caller: nothing, one of the errors of `durable.errors`, or that he asks again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from durable.backends.records import (
    Accepted,
    Answer,
    Busy,
    Finished,
    Full,
    InstanceRef,
    NotFound,
    Paused,
    Refused,
    Verdict,
)
from durable.errors import BackendError, DurableError, InstanceFinished, InstanceNotFound, PayloadError

BUSY_ATTEMPTS = 20
BUSY_SECONDS = 0.05
Q = TypeVar("Q")


async def until_judged(
    call: Callable[[Sequence[Q]], Awaitable[Answer[Verdict]]], asked: Sequence[Q]
) -> list[Verdict]:
    """The verdicts, in their order. What somebody holds for a moment is asked again, a few times; `Busy` if he stays.

    For who looks after the store beside live work, and may leave what is held for the next time.
    """
    verdicts: list[Verdict] = [Busy()] * len(asked)
    left = list(range(len(asked)))
    for _ in range(BUSY_ATTEMPTS):
        if not left:
            break
        for n, verdict in zip(left, (await call([asked[n] for n in left])).items, strict=True):
            verdicts[n] = verdict
        if left := [n for n in left if isinstance(verdicts[n], Busy)]:
            await asyncio.sleep(BUSY_SECONDS)
    return verdicts


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
