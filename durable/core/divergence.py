"""The report of a divergence: what history holds, what the code asked for, where, and what to do about it.

Two things are told apart. Where the kind, number or name of a command differs, the run cannot go on: that is
`diverged`. The same command with other arguments is legal, since code may change what it sends; only who knows that
the code is the same (a test that replays what it has just run) may call it a mistake: that is a `Difference`.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any

from durable.core.commands import describe, shape
from durable.core.context import Site
from durable.core.events import Decision, TimerStarted
from durable.errors import NonDeterminismError

Read = Callable[[str], str]
"""From a stored payload to its text; what raises ``ValueError`` is shown as sealed."""

_PAYLOADS = frozenset({"args", "payload", "result", "value"})
# In `shape`, or of no meaning to compare: tracebacks, for instance, change with every line of the code.
_NOT_CONTENT = frozenset({"kind", "time_us", "number", "workflow", "failure", "names", "queue"})
_MOST_LINES = 6
_WIDTH = 80
_SEALED = "(sealed)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A command that history holds with other arguments: the number of its event, both sides, and where it was."""

    event: int
    expected: Decision
    actual: Decision
    site: Site


def as_stored(payload: str) -> str:
    """Payloads as the store has them: what is encrypted stays so."""
    return payload


# --- contents -------------------------------------------------------------------------------------------------------


def contents(decision: Decision, read: Read = as_stored) -> dict[str, Any]:
    """What a decision carries beside its shape, by name; payloads as JSON values."""
    found = {field.name: getattr(decision, field.name) for field in fields(decision)}
    kept = {name: value for name, value in found.items() if name not in _NOT_CONTENT and value is not None}
    if isinstance(decision, TimerStarted):
        kept["seconds"] = (kept.pop("due_us") - decision.time_us) / 1e6
    else:
        kept.pop("name", None)
    return {name: _value(value, read) if name in _PAYLOADS else value for name, value in kept.items()}


def _value(payload: str, read: Read) -> Any:
    try:
        return json.loads(read(payload))
    except ValueError:
        return _SEALED


def changes(expected: Decision, actual: Decision, read: Read = as_stored) -> list[str]:
    """Place by place what differs: ``args[1]: 4200 in history, 4300 now``."""
    lines = list(_walk("", contents(expected, read), contents(actual, read)))
    if len(lines) > _MOST_LINES:
        lines[_MOST_LINES:] = [f"... and {len(lines) - _MOST_LINES} more"]
    return lines


def _walk(path: str, before: Any, now: Any) -> Iterator[str]:
    if isinstance(before, dict) and isinstance(now, dict):
        for key in dict.fromkeys([*before, *now]):
            place = f"{path}.{key}" if path else str(key)
            yield from _part(place, before, now, key, key in before, key in now)
    elif isinstance(before, list) and isinstance(now, list):
        for index in range(max(len(before), len(now))):
            yield from _part(f"{path}[{index}]", before, now, index, index < len(before), index < len(now))
    elif before != now or type(before) is not type(now):
        yield f"{path}: {_short(before)} in history, {_short(now)} now"


def _part(path: str, before: Any, now: Any, key: Any, was: bool, is_now: bool) -> Iterator[str]:
    if was and is_now:
        yield from _walk(path, before[key], now[key])
    elif was:
        yield f"{path}: {_short(before[key])} in history, nothing now"
    else:
        yield f"{path}: nothing in history, {_short(now[key])} now"


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=repr)
    return text if len(text) <= _WIDTH else f"{text[: _WIDTH - 3]}..."


# --- reports --------------------------------------------------------------------------------------------------------

_REMEDY = (
    "If the code was changed since the run began: guard the change with durable.patched(), keep the old code beside "
    "the new one under a version of its own, or let a worker with the old code finish the run. If it was not changed, "
    "it is not deterministic: look for the order of a set, os.environ, and values that were made outside of the run."
)


def diverged(
    *,
    instance_id: str,
    workflow: str,
    event: int,
    expected: Decision | None,
    actual: Decision | None,
    site: Site,
    read: Read = as_stored,
) -> NonDeterminismError:
    """The error for code that asks for something else than ``event`` of its history; None is nothing at all."""
    wanted = "nothing more in this step" if expected is None else describe(expected)
    asked = "nothing more" if actual is None else describe(actual)
    place = f" at {site.file}:{site.line} (task {site.task!r})" if site.line else ""
    sides = [
        f"  {who}: {describe(decision)}{_shown(decision, read)}"
        for who, decision in (("history", expected), ("code   ", actual))
        if decision is not None
    ]
    hint = _hint(expected, actual)
    return NonDeterminismError(
        f"instance {instance_id!r} does not follow its history: event {event} is {wanted}, but workflow {workflow!r} "
        f"asked for {asked}{place}.\n" + "\n".join([*sides, *([hint] if hint else []), _REMEDY]),
        expected=wanted,
        actual=asked,
        file=site.file,
        line=site.line,
        event=event,
        task=site.task,
        arguments=_arguments(expected, actual, read),
    )


def _shown(decision: Decision, read: Read) -> str:
    carried = contents(decision, read)
    return (
        f" with {', '.join(f'{name}={_short(value)}' for name, value in carried.items())}" if carried else ""
    )


def _arguments(expected: Decision | None, actual: Decision | None, read: Read) -> tuple[str, ...]:
    if expected is None or actual is None or expected.kind != actual.kind:
        return ()
    return tuple(changes(expected, actual, read))


def _hint(expected: Decision | None, actual: Decision | None) -> str:
    if expected is None:
        return "The code asks for one thing more than it did when this step ran."
    if actual is None:
        return "The code does not ask for it any more, or waits for something else first."
    (kind, number, name), (our_kind, our_number, our_name) = shape(expected), shape(actual)
    if (kind, name) == (our_kind, our_name) and number != our_number:
        return "It is the same call as another command: something before it was added or taken away."
    return ""


def differs(
    instance_id: str, workflow: str, found: Difference, reason: str, read: Read = as_stored
) -> NonDeterminismError:
    """The error for a `Difference` that is a mistake, as ``reason`` says."""
    lines = changes(found.expected, found.actual, read)
    words = describe(found.expected)
    return NonDeterminismError(
        f"instance {instance_id!r} does not follow its history: event {found.event} is {words}, and workflow "
        f"{workflow!r} asked for it with other values at {found.site.file}:{found.site.line} (task "
        f"{found.site.task!r}).\n" + "\n".join([*(f"  {line}" for line in lines), reason]),
        expected=f"{words}{_shown(found.expected, read)}",
        actual=f"{words}{_shown(found.actual, read)}",
        file=found.site.file,
        line=found.site.line,
        event=found.event,
        task=found.site.task,
        arguments=tuple(lines),
    )


def in_another_order(differences: Sequence[Difference], read: Read = as_stored) -> Difference | None:
    """The first difference, if the same calls carry the same arguments in another order; else None.

    Changed code sends other arguments; the same ones in another order come of an order that differs between processes.
    """
    groups: dict[tuple[str, str | None], list[Difference]] = {}
    for one in differences:
        kind, _, name = shape(one.expected)
        groups.setdefault((kind, name), []).append(one)
    for group in groups.values():
        before = Counter(_key(one.expected, read) for one in group)
        if len(group) > 1 and before == Counter(_key(one.actual, read) for one in group):
            return group[0]
    return None


def _key(decision: Decision, read: Read) -> str:
    return json.dumps(contents(decision, read), sort_keys=True, default=repr)
