"""What a run waits for, told from its history and its code: the line of each task, and what is not there yet.

It replays the run into a copy and looks at it; nothing is executed or written.
"""

from __future__ import annotations

import inspect
import linecache
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import Any

from durable.core import events
from durable.core.events import Event
from durable.core.replay import Run
from durable.primitives.info import time_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A task of a run that is not over, and the line of the author's code at which it is."""

    task: str
    file: str
    line: int

    def __str__(self) -> str:
        source = linecache.getline(self.file, self.line).strip()
        return f"task {self.task!r} at {self.file}:{self.line}" + (f": {source}" if source else "")


def places(run: Run) -> list[Place]:
    """Where each task of the run is, oldest first."""
    found = []
    for task in run.loop.tasks.values():
        frame = author_frame(task.get_coro())
        if frame is not None and not task.done():
            found.append(Place(task=task.get_name(), file=frame.f_code.co_filename, line=frame.f_lineno or 0))
    return found


def author_frame(coroutine: Any) -> FrameType | None:
    """The innermost frame that is neither the engine's nor asyncio's, along the chain of awaits."""
    found: FrameType | None = None
    for frame in _frames(coroutine):
        module = frame.f_globals.get("__name__", "")
        if not module.startswith(("asyncio", "anyio", "contextlib", "durable.core", "durable.primitives")):
            found = frame
    return found


def _frames(coroutine: Any) -> Iterator[FrameType]:
    while coroutine is not None:
        if inspect.iscoroutine(coroutine):
            frame, coroutine = coroutine.cr_frame, coroutine.cr_await
        elif inspect.isgenerator(coroutine):
            frame, coroutine = coroutine.gi_frame, coroutine.gi_yieldfrom
        elif inspect.isasyncgen(coroutine):
            frame, coroutine = coroutine.ag_frame, coroutine.ag_await
        else:
            return
        if frame is not None:
            yield frame


def awaited(run: Run, history: Sequence[Event]) -> list[str]:
    """What the run waits for, in words: ``activity 'charge'``, ``signal 'approve'``, ``a condition``, ..."""
    context = run.context
    named = {
        event.number: words
        for event in history
        if (words := _words(event)) is not None and hasattr(event, "number")
    }
    found = [named[number] for number in sorted(context.pending) if number in named]
    found += [f"a timer until {time_of(due_us).isoformat()}" for due_us in sorted(context.timers.values())]
    found += [
        f"signal {name!r}"
        for name, inbox in context.inboxes.items()
        if any(not waiter.done() for waiter in inbox.waiters)
    ]
    if any(not future.done() for future in context.conditions):
        found.append("a condition")
    return found


def _words(event: Event) -> str | None:
    match event:
        case events.ActivityScheduled(name=name):
            return f"activity {name!r}"
        case events.ChildScheduled(workflow=workflow, instance_id=instance_id):
            return f"child {instance_id!r} of workflow {workflow!r}"
        case events.SignalSent(instance_id=instance_id) | events.CancelSent(instance_id=instance_id):
            return f"the delivery of a message to {instance_id!r}"
        case _:
            return None
