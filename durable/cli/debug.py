"""``durable debug``: a production history under pdb, forwards and backwards, event by event."""

from __future__ import annotations

import asyncio
import bdb
import pdb
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import click
import orjson

from durable.cli.definitions import named, workflows_of
from durable.cli.reading import reader
from durable.core import guards
from durable.core.loop import current_workflow_loop
from durable.core.payload import Codec
from durable.errors import BackendError, InstanceNotFound, NonDeterminismError
from durable.primitives.info import time_of
from durable.primitives.workflow import Workflow
from durable.testing.time_travel import TimeTravel
from durable.testing.waits import Branch, author_frames, awaited, is_authors, tree

WIDTH = 150


_HELP = """Replay the history of an instance, or of a file (`client.export_history`), under pdb.

It stops behind the last event, or behind --event. Nothing is executed or written: activities give what history holds.
At the prompt, pdb's commands look at the tasks, and these travel:

\b
n, next        on to the next event         s, step      on, but stop in the code
b, back        to the event before          g, goto N    to event N
c, continue    to the end or a breakpoint   events       the history
tasks          the tree of tasks            task NAME    look at that one
awaits         what the run waits for       break        pdb's breakpoints (b is `back`)
"""


@click.command(help=_HELP)
@click.argument("target", metavar="ID|FILE")
@click.argument("definitions", nargs=-1, required=True, metavar="MODULE[:WORKFLOW]...")
@click.option(
    "--url", envvar="DURABLE_URL", help="The store. Default: DURABLE_URL, else sqlite:///./durable.db."
)
@click.option("--run", "run_id", help="The run id. Default: the instance's latest run.")
@click.option("--event", type=int, help="Where to stop first. Default: behind the last event.")
@click.option(
    "--codec", "codec_name", metavar="MODULE:NAME", help="The codec that payloads were written with."
)
def debug(
    target: str,
    definitions: tuple[str, ...],
    url: str | None,
    run_id: str | None,
    event: int | None,
    codec_name: str | None,
) -> None:
    """Travel through a history."""
    codec = named(codec_name) if codec_name else None
    try:
        text = (
            Path(target).read_text()
            if Path(target).is_file()
            else asyncio.run(_text(target, run_id, url, codec))
        )
        travel = TimeTravel(_workflow(text, definitions), text, codec=codec)
    except (BackendError, InstanceNotFound, ValueError) as error:
        raise click.UsageError(str(error)) from error
    try:
        Debugger(travel).travel(len(travel.history) if event is None else event)
    finally:
        travel.close()


async def _text(id: str, run_id: str | None, url: str | None, codec: Codec | None) -> str:
    async with reader(url, codec) as client:
        return await client.export_history(id, run_id)


def _workflow(text: str, definitions: Sequence[str]) -> Workflow[..., Any]:
    found = workflows_of(tuple(definitions))
    header = orjson.loads(text.partition("\n")[0])
    name, version = header.get("workflow", ""), header.get("version", "")
    if (name, version) not in found:
        raise ValueError(
            f"workflow {name!r}{version and f' version {version!r}'} is not in the given modules"
        )
    return found[name, version]


class Debugger(pdb.Pdb):
    """pdb, whose "program" is a run at one of its events; at rest its frames are those of a suspended task."""

    def __init__(self, travel: TimeTravel) -> None:
        plain: dict[str, Any] = {} if sys.stdin.isatty() else {"stdin": sys.stdin, "stdout": sys.stdout}
        super().__init__(nosigint=True, readrc=False, **plain)
        self.prompt = "(durable) "
        self._travel = travel
        self._task: str | None = None
        self._frames: list[FrameType] = []
        self._inside = False
        self._into = False
        self._free = False
        self._wanted: tuple[str, int] | None = None

    def travel(self, number: int) -> None:
        """Begin behind this event; returns when the user has had enough."""
        self._wanted = ("goto", number)
        try:
            while self._wanted is not None:
                self._go(*self._wanted)
                self._wanted = None
                self._rest()
        except bdb.BdbQuit:
            pass

    # --- travelling -------------------------------------------------------------------------------------------------

    def _go(self, how: str, number: int) -> None:
        try:
            match how:
                case "goto":
                    self._travel.goto(number)
                case "back":
                    self._travel.back()
                case "all":
                    self._traced(into=False, to=len(self._travel.history))
                case _:
                    self._traced(into=how == "step", to=0)
        except NonDeterminismError as error:
            self.message(f"*** {error}")
        except ValueError as error:
            self.error(str(error))

    def _traced(self, *, into: bool, to: int) -> None:
        """Forward with breakpoints; ``into``: stop at the first line of the author's code."""
        self.reset()
        self._inside, self._into, self._free = True, into, not into
        sys.settrace(self.trace_dispatch)
        try:
            while self._travel.forward() and self._travel.number < to:
                pass
        finally:
            sys.settrace(None)
            self._inside = False

    def stop_here(self, frame: FrameType) -> bool:
        """At rest before: only breakpoints, and the first line of the author's code after ``step``."""
        if current_workflow_loop() is None or not is_authors(frame):
            return False
        if self._into:
            self._into = False
            return True
        return not self._free and super().stop_here(frame)

    def interaction(self, frame: Any, tb_or_exc: Any) -> None:
        """The prompt; inside of a step nothing of the guards is meant for who sits there."""
        with guards.lifted():
            super().interaction(frame, tb_or_exc)

    # --- at rest ----------------------------------------------------------------------------------------------------

    def _rest(self) -> None:
        self._tell_event()
        task = self._chosen()
        self._frames = [] if task is None else author_frames(task)
        self.reset()
        if self._frames:
            self.interaction(self._frames[-1], None)
        else:
            self.message("no task is there: it has not begun, or it is over")
            self.interaction(_nothing(), None)

    def get_stack(self, f: Any, t: Any) -> tuple[list[tuple[FrameType, int]], int]:
        """A suspended coroutine has no caller: its chain of awaits takes the place."""
        if self._inside or not self._frames:
            return super().get_stack(f, t)
        stack = [(frame, frame.f_lineno or 0) for frame in self._frames]
        return stack, len(stack) - 1

    def _chosen(self) -> asyncio.Task[Any] | None:
        tasks = [task for task in self._travel.run.loop.tasks.values() if author_frames(task)]
        named = [task for task in tasks if task.get_name() == self._task]
        return next(iter([*named, *tasks]), None)

    def _tell_event(self) -> None:
        number = self._travel.number
        total = len(self._travel.history)
        if number == 0:
            self.message(f"before event 1 of {total}")
            return
        begins = max((stop for stop in self._travel.stops if stop < number), default=0) + 1
        for one in range(begins, number + 1):
            self.message(self._line(one))

    def _line(self, number: int) -> str:
        event = self._travel.history[number - 1]
        hidden = ("kind", "time_us")
        fields = {
            name: getattr(event, name) for name in type(event).__dataclass_fields__ if name not in hidden
        }
        told = " ".join(
            f"{name}={value!r}" for name, value in fields.items() if value not in (None, "", (), {}, False)
        )
        text = f"{number:>5} {time_of(event.time_us).isoformat(timespec='milliseconds')} {event.kind} {told}"
        return text if len(text) <= WIDTH else f"{text[: WIDTH - 3]}..."

    def _want(self, how: str, number: int = 0) -> bool:
        self._wanted = (how, number)
        return True

    # --- commands ---------------------------------------------------------------------------------------------------

    def do_next(self, arg: str) -> bool | None:
        """n(ext): on to the next event; inside of code, the next line."""
        if self._inside:
            return super().do_next(arg)
        if self._travel.is_at_end:
            self.message("this is the last event")
            return None
        return self._want("next")

    do_n = do_next

    def do_step(self, arg: str) -> bool | None:
        """s(tep): on to the next event, stopping in the code that it leads to; inside of code, into the call."""
        if self._inside:
            return super().do_step(arg)
        return self._want("step")

    do_s = do_step

    def do_continue(self, arg: str) -> bool | None:
        """c(ontinue): to the last event or a breakpoint; inside of code, to the end of this event or a breakpoint."""
        if self._inside:
            self._free = True
            return super().do_continue(arg)
        return self._want("all")

    do_c = do_cont = do_continue

    def do_back(self, arg: str) -> bool | None:
        """b, back: to the event before."""
        if self._inside:
            self.error("inside of code: continue first")
            return None
        if self._travel.number == 0:
            self.message("this is the beginning")
            return None
        return self._want("back")

    do_b = do_back  # type: ignore[assignment]  # pdb's own also takes whether it is temporary

    def do_goto(self, arg: str) -> bool | None:
        """g, goto N: to the stop behind event N."""
        if self._inside or not arg.strip().isdigit():
            self.error("goto takes the number of an event, outside of code")
            return None
        return self._want("goto", int(arg))

    do_g = do_goto

    def do_events(self, arg: str) -> None:
        """events: the history; the event that was come to is marked."""
        for number in range(1, len(self._travel.history) + 1):
            self.message(f"{'>' if number == self._travel.number else ' '}{self._line(number)}")

    def do_tasks(self, arg: str) -> None:
        """tasks: the tree of tasks, and what each waits for."""
        for branch in tree(self._travel.run, self._travel.history):
            self._tell_branch(branch, "")

    def _tell_branch(self, branch: Branch, indent: str) -> None:
        waits = f"  <- {branch.awaits}" if branch.awaits else ""
        self.message(f"{indent}{branch.place or f'task {branch.task.get_name()!r}'}{waits}")
        for below in branch.below:
            self._tell_branch(below, indent + "    ")

    def do_task(self, arg: str) -> bool | None:
        """Look at the frames of the task NAME."""
        names = [task.get_name() for task in self._travel.run.loop.tasks.values()]
        if arg.strip() not in names:
            self.error(f"there are tasks {', '.join(map(repr, names)) or 'no more'}")
            return None
        self._task = arg.strip()
        return self._want("goto", self._travel.number)

    def do_awaits(self, arg: str) -> None:
        """awaits: what the run waits for."""
        for what in awaited(self._travel.run, self._travel.history[: self._travel.number]):
            self.message(what)

    def do_EOF(self, arg: str) -> bool | None:
        """End of input: enough."""
        self.message("")
        return super().do_quit(arg)


def _nothing() -> FrameType:
    """A frame for the prompt when there is no task."""
    return sys._getframe()
