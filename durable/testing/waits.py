"""What a run waits for, told from its history and its code: the line of each task, and what is not there yet.

It looks at a run that was replayed into a copy; nothing is executed or written.
"""

from __future__ import annotations

import asyncio
import inspect
import linecache
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

from durable.core import events
from durable.core.events import Event
from durable.core.replay import Run
from durable.primitives.info import time_of

_NOT_THE_AUTHORS = ("asyncio", "anyio", "contextlib", "durable")


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A task of a run that is not over, and the line of the author's code at which it is."""

    task: str
    file: str
    line: int

    def __str__(self) -> str:
        source = linecache.getline(self.file, self.line).strip()
        return f"task {self.task!r} at {self.file}:{self.line}" + (f": {source}" if source else "")


@dataclass(slots=True, kw_only=True)
class Branch:
    """A task in the tree: what it waits for, in words (``""``: for the tasks below it), and those tasks."""

    task: asyncio.Task[Any]
    place: Place | None
    awaits: str
    below: list[Branch] = field(default_factory=list)


def places(run: Run) -> list[Place]:
    """Where each task of the run is, oldest first."""
    found = [_place(task) for task in run.loop.tasks.values() if not task.done()]
    return [place for place in found if place is not None]


def author_frames(task: asyncio.Task[Any]) -> list[FrameType]:
    """The frames of a task that are neither the engine's nor asyncio's, outermost first, along the chain of awaits."""
    return [frame for frame in _frames(task.get_coro()) if is_authors(frame)]


def is_authors(frame: FrameType) -> bool:
    """Whether a frame is of the workflow's own code, or of a library that is none of ours."""
    module = frame.f_globals.get("__name__", "")
    ours = module.partition(".")[0] in _NOT_THE_AUTHORS
    return not ours or module.startswith("durable.testing.conformance")  # the kit's own workflows


def awaited(run: Run, history: Sequence[Event]) -> list[str]:
    """What the run waits for, in words: ``activity 'charge'``, ``signal 'approve'``, ``a condition``, ..."""
    named = _named([*history, *run.owed])
    context = run.context
    found = [named[abs(number)] for number in sorted(context.pending, key=abs) if abs(number) in named]
    found += [f"a timer until {time_of(due_us).isoformat()}" for due_us in sorted(context.timers.values())]
    found += [
        f"signal {name!r}"
        for name, inbox in context.inboxes.items()
        if any(not waiter.done() for waiter in inbox.waiters)
    ]
    if any(not future.done() for future in context.conditions):
        found.append("a condition")
    return list(dict.fromkeys(found))


def tree(run: Run, history: Sequence[Event]) -> list[Branch]:
    """The tasks of the run: at the top those that no other waits for."""
    words = _words_by_future(run, history)
    branches: dict[int, Branch] = {}
    for task in run.loop.tasks.values():
        waits = getattr(task, "_fut_waiter", None)
        branches[id(task)] = Branch(task=task, place=_place(task), awaits=words.get(id(waits), ""))
    below: set[int] = set()
    for key, branch in branches.items():
        for other in _waited_for(branch.task):
            found = branches.get(id(other))
            if found is not None and id(other) != key and id(other) not in below:
                below.add(id(other))
                branch.below.append(found)
    return [branch for key, branch in branches.items() if key not in below]


def _place(task: asyncio.Task[Any]) -> Place | None:
    frames = author_frames(task)
    if not frames:
        return None
    return Place(task=task.get_name(), file=frames[-1].f_code.co_filename, line=frames[-1].f_lineno or 0)


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


def _waited_for(task: asyncio.Task[Any]) -> Iterator[asyncio.Task[Any]]:
    """The tasks that a task waits for: directly, by ``gather``, by ``wait``, or in a task group that it is leaving."""
    waits = getattr(task, "_fut_waiter", None)
    candidates = [waits, *(getattr(waits, "_children", None) or ())]
    for frame in _frames(task.get_coro()):
        if frame.f_code.co_name == "_wait":
            candidates += frame.f_locals.get("fs") or ()
        elif frame.f_code.co_name == "__aexit__":
            candidates += getattr(frame.f_locals.get("self"), "_tasks", None) or ()
    yield from (one for one in candidates if isinstance(one, asyncio.Task))


def _words_by_future(run: Run, history: Sequence[Event]) -> dict[int, str]:
    named, context = _named([*history, *run.owed]), run.context
    found = {id(p.future): named[abs(n)] for n, p in context.pending.items() if abs(n) in named}
    for name, inbox in context.inboxes.items():
        found |= {id(waiter): f"signal {name!r}" for waiter in inbox.waiters}
    found |= {id(future): "a condition" for future in context.conditions}
    for number, handle in run.loop.timers.items():
        until = f"a timer until {time_of(context.timers.get(number, 0)).isoformat()}"
        found |= {id(argument): until for argument in handle._args or ()}
    return found


def _named(history: Sequence[Event]) -> dict[int, str]:
    return {
        event.number: words
        for event in history
        if (words := _words(event)) is not None and hasattr(event, "number")
    }


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
