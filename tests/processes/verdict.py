"""What must hold at the end: the engine's word, the activities' own, and the model are one."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from itertools import pairwise
from typing import Any

import durable
from tests.processes.crew import Crew
from tests.processes.programs import Program, keys, run

SLACK_NS = 500_000_000
PATIENCE_TO_TAKE_OVER_SECONDS = 40.0
"""How long it may be in the queue behind all else, on a machine that has much else to do."""
PATIENCE_SECONDS = 100.0


async def create(client: durable.Client, programs: Mapping[str, Program]) -> None:
    """Start an instance for each, under its name."""
    room = asyncio.Semaphore(50)

    async def one(name: str, program: Program) -> None:
        async with room:
            await client.create_instance(run, name, program, id=name)

    await asyncio.gather(*(one(name, program) for name, program in programs.items()))


async def results(client: durable.Client, names: Collection[str]) -> dict[str, dict[str, str]]:
    """Wait until all have ended; gives what each has returned."""
    found = await asyncio.gather(
        *(client.get_instance(name, workflow=run).result(timeout=PATIENCE_SECONDS) for name in names)
    )
    return dict(zip(names, found, strict=True))


async def hold(
    client: durable.Client,
    crew: Crew,
    programs: Mapping[str, Program],
    spoilt: Collection[int] = (),
    expected: str | None = None,
) -> dict[str, int]:
    """All have ended as the model says. Gives some figures. ``expected``: see `Crew.complaints`.

    ``spoilt``: the pids whose work may have been lost (killed, or paused past the lease): only what such a process, or
    one whose database was killed, had in hand may have been called again, and nothing once it was recorded.
    """
    found = await results(client, list(programs))
    for name, program in programs.items():
        assert set(found[name]) == keys(name, program), f"{name} has not done what its program says"
    recorded = {key: stamp for done in found.values() for key, stamp in done.items()}
    calls, ended = crew.tally.calls(), crew.tally.ended()
    assert set(calls) == set(recorded), "what activities did and what the engine recorded are not the same"
    again = {key: lines for key, lines in calls.items() if len(lines) > 1}
    for key, stamp in recorded.items():
        assert stamp in {line.stamp for line in calls[key]}, f"{key}: recorded {stamp}, which never was"
        assert stamp in ended, f"{key}: recorded {stamp}, which never ended"
    for key, lines in again.items():
        wasted = [line for line in lines if line.stamp != recorded[key]]
        strange = [line for line in wasted if line.pid not in spoilt]
        assert not strange, f"{key} was called again, though nothing happened to {strange}: {lines}"
    await _nothing_after_it_was_recorded(client, {key: again[key] for key in again}, recorded)
    assert await client.audit() == []
    assert crew.complaints(expected) == []
    return {"activities": len(recorded), "called again": sum(len(lines) - 1 for lines in again.values())}


def taken_over_in_time(crew: Crew, lease_seconds: float) -> None:
    """What a killed worker had in hand was called again when its lease was over, and not by an audit's mercy."""
    for key, lines in crew.tally.calls().items():
        for line, again in pairwise(lines):
            if line.pid in crew.killed:
                seconds = (again.at_ns - crew.killed[line.pid]) / 1e9
                assert seconds < lease_seconds + PATIENCE_TO_TAKE_OVER_SECONDS, (
                    f"{key}: {seconds:.1f} s after the kill"
                )


async def _nothing_after_it_was_recorded(
    client: durable.Client, again: Mapping[str, Collection[Any]], recorded: Mapping[str, str]
) -> None:
    times: dict[str, int] = {}
    for name in {key.split(".")[0] for key in again}:
        for event in await _family(client, name):
            if event.kind == "activity_completed":
                times[str(event.fields["result"])] = int(event.time.timestamp() * 1e9)
    for key, lines in again.items():
        at_ns = times.get(recorded[key])
        if at_ns is None:
            continue  # of a child, whose instance has another id
        late = [line for line in lines if line.at_ns > at_ns + SLACK_NS]
        assert not late, f"{key} was recorded as {recorded[key]} at {at_ns}, and called again by {late}"


async def _family(client: durable.Client, name: str) -> list[durable.HistoryEvent]:
    return list(await client.get_instance(name).history())
