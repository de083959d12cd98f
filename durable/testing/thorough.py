"""A thorough replay: from scratch, from every place at which a worker may have forgotten the run, in other processes.

The code must be the one that made the history: every other argument is a mistake here, unlike in `replay`, which lets
code change what it sends.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from durable.core.history import decode_history, turns
from durable.errors import NonDeterminismError
from durable.testing.other_process import OtherProcesses
from durable.testing.replayer import replay

if TYPE_CHECKING:
    from durable.testing.environment import Recorded

MOST_EVICTIONS = 50
"""Each is a replay of all before it: a long history is evicted at this many places, evenly spread."""


def replay_thoroughly(
    recorded: Iterable[Recorded], others: OtherProcesses | None = None, *, evicting: bool = True
) -> None:
    """Replay each run from scratch, after an eviction at every await, and by ``others`` under other hash seeds.

    Mocked workflows are left out: what stood in for them is no code of anybody. Raises `NonDeterminismError` with a
    report that says how the run was replayed.
    """
    for run in recorded:
        if run.workflow is None:
            continue
        _replay(run, run.text, "replayed from scratch")
        for end, text in _prefixes(run.text) if evicting else ():
            _replay(run, text, f"evicted behind event {end} and replayed")
        if others is not None and run.codec is None and not run.context:
            report = others.replay(run.workflow, run.text)
            if report is not None:
                raise NonDeterminismError(f"{_name(run)} was replayed in another process: {report}")


def _replay(run: Recorded, text: str, how: str) -> None:
    assert run.workflow is not None
    try:
        replay(run.workflow, text, codec=run.codec, context=run.context, same_code=True)
    except NonDeterminismError as error:
        raise NonDeterminismError(
            f"{_name(run)} was {how}: {error}",
            expected=error.expected,
            actual=error.actual,
            file=error.file,
            line=error.line,
            event=error.event,
        ) from None


def _name(run: Recorded) -> str:
    return f"instance {run.instance_id!r} (workflow {run.name!r})"


def _prefixes(text: str) -> list[tuple[int, str]]:
    """The history as it was when the run waited: how many events, and the text up to there."""
    header, *lines = text.split("\n")
    places = [turn.number - 1 for turn in turns(decode_history(line.encode() for line in lines))][1:]
    step = -(-len(places) // MOST_EVICTIONS) or 1
    return [(end, "\n".join([header, *lines[:end]])) for end in places[::step]]
