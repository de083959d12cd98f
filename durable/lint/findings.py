"""What the analyser finds, and the rules it finds it by."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A rule: its code, what it is about, and what to do instead."""

    code: str
    about: str
    instead: str


_RULES = (
    Rule(
        code="DUR100",
        about="a silence without a reason",
        instead="write `# durable: ok - why it is`",
    ),
    Rule(
        code="DUR101", about="wall clock", instead="use durable.now(), or asyncio.get_running_loop().time()"
    ),
    Rule(code="DUR102", about="randomness", instead="use durable.random() or durable.uuid4()"),
    Rule(code="DUR103", about="threads and processes", instead="move this work into an activity"),
    Rule(code="DUR104", about="input and output", instead="move this work into an activity"),
    Rule(code="DUR105", about="a blocking call", instead="await what asyncio has for it, or use an activity"),
    Rule(
        code="DUR106",
        about="state outside of the workflow",
        instead="pass it as an argument, or take it in by an activity or durable.side_effect()",
    ),
    Rule(
        code="DUR107",
        about="the order of a set",
        instead="sort it: strings hash differently in every process",
    ),
    Rule(code="DUR108", about="a call that is never awaited", instead="await it, or make it a task"),
    Rule(
        code="DUR109",
        about="a handler that swallows cancellation",
        instead="catch Exception, or raise again",
    ),
    Rule(
        code="DUR110",
        about="a mutable default",
        instead="use None and make it in the function: all instances would share it",
    ),
)
RULES = {rule.code: rule for rule in _RULES}


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A function on the way to a finding, and the line in it that leads on."""

    path: Path
    line: int
    function: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One offence. ``way`` begins in the workflow and ends in the function with the line; ``column`` is from 0."""

    path: Path
    line: int
    column: int
    code: str
    what: str
    way: tuple[Step, ...]

    @property
    def message(self) -> str:
        """Code, what was found, what to do, and how the workflow comes here."""
        rule = RULES[self.code]
        through = " -> ".join(f"{step.function}()" for step in self.way)
        where = f" [{through}]" if len(self.way) > 1 else ""
        return f"{self.code} {rule.about}: {self.what}; {rule.instead}{where}"
