"""The table of what asyncio and anyio do in a workflow: one `Case` for each verdict, and how a case is run.

A case names the public names that it is the evidence for, and holds a coroutine function that uses them in a workflow.
The tests, and the page ``docs/reference/asyncio.md``, are made from the cases.
"""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any

import durable
from durable.core import events
from durable.core.events import Event, Input, encode_event
from tests.core.runs import IDENTITY, begin, check_every_prefix, stored

Body = Callable[[], Awaitable[Any]]

WORKS, RAISES, NOT_APPLICABLE = "works", "raises", "not applicable"


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """Evidence for some names. ``since`` and ``until`` are versions of Python, both included."""

    module: str
    names: tuple[str, ...]
    verdict: str
    note: str
    body: Body
    expected: Any
    since: tuple[int, int]
    until: tuple[int, int]

    @property
    def title(self) -> str:
        return f"{self.module}.{self.names[0]}"

    @property
    def here(self) -> bool:
        return self.since <= sys.version_info[:2] <= self.until


cases: list[Case] = []


def _case(module: str, verdict: str, names: str, note: str, body: Body, expected: Any, limits: Any) -> None:
    cases.append(
        Case(
            module=module,
            names=tuple(names.split()),
            verdict=verdict,
            note=note,
            body=body,
            expected=expected,
            since=limits.get("since", (3, 11)),
            until=limits.get("until", (3, 99)),
        )
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Module:
    """Where the names of a file of cases come from."""

    name: str

    def works(self, names: str, expected: Any, note: str = "", **limits: Any) -> Callable[[Body], Body]:
        """The body gives ``expected``, as JSON has it."""

        def add(body: Body) -> Body:
            _case(self.name, WORKS, names, note, body, expected, limits)
            return body

        return add

    def raises(self, names: str, words: str, note: str = "", **limits: Any) -> Callable[[Body], Body]:
        """The body gives the text of what it caught; ``words`` are in it."""

        def add(body: Body) -> Body:
            _case(self.name, RAISES, names, note, body, words, limits)
            return body

        return add

    def has_no_use(self, names: str, note: str, **limits: Any) -> None:
        """The names may be looked at, and that is all."""

        async def body() -> list[str]:
            module = sys.modules[self.name]
            return [name for name in names.split() if getattr(module, name) is None]

        _case(self.name, NOT_APPLICABLE, names, note, body, [], limits)


async def refused(work: Callable[[], Any]) -> str:
    """What ``work`` raised, as text. It may be a coroutine function."""
    try:
        result = work()
        if inspect.isawaitable(result):
            await result
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "was not refused"


@durable.activity(name="echo")
async def echo(value: Any) -> Any:
    """The world outside, in one activity."""
    return value


# --- running a case ---------------------------------------------------------------------------------------------------


def workflow_of(case: Case) -> durable.Workflow[..., Any]:
    async def workflow() -> Any:
        return await case.body()

    return durable.workflow(name=case.title)(workflow)


def recorded(case: Case) -> list[Event]:
    """Run the case to its end; its history. Activities give back their argument, timers fire in order."""
    live = begin(workflow_of(case))
    live.advance()
    for _ in range(1_000):
        if live.run.ended:
            break
        live.advance(_next_input(live.run, live.history))
    live.run.drop()
    return stored(live.history)


def _next_input(run: Any, history: list[Event]) -> Input:
    for event in history:
        if isinstance(event, events.ActivityScheduled) and event.number in run.context.pending:
            (argument,) = json.loads(event.args)
            return events.ActivityCompleted(
                time_us=run.loop.now_us, number=event.number, result=json.dumps(argument)
            )
    if not run.context.timers:
        raise AssertionError(f"the run waits for nothing that could come: {history[-1]}")
    due, number = min((due, number) for number, due in run.context.timers.items())
    return events.TimerFired(time_us=due, number=number)


def result_of(history: list[Event]) -> Any:
    end = history[-1]
    if isinstance(end, events.RunCompleted):
        return json.loads(end.result)
    raise AssertionError(f"the workflow did not complete: {end}")


def exported(case: Case, history: list[Event]) -> str:
    """As `durable.Client.export_history` writes it."""
    header = {"format": 1, "run_id": IDENTITY.run_id, "instance_id": IDENTITY.instance_id}
    return "\n".join([json.dumps(header), *(encode_event(event).decode() for event in history)])


def replays_from_every_prefix(case: Case, history: list[Event]) -> None:
    check_every_prefix(workflow_of(case), history)


def lines() -> Iterator[tuple[str, Case]]:
    """Every name with its case, sorted as on the page."""
    for case in sorted(cases, key=lambda case: (case.module != "asyncio", case.module)):
        for name in case.names:
            yield name, case
