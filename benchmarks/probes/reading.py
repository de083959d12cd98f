"""What a probe says, and what its rounds come to."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks import loops
from benchmarks.conditions import Conditions
from benchmarks.figures import Spread, percentile, spread
from benchmarks.plain import aligned
from durable.core import guards


def real_time() -> float:
    """`time.time`; in a workflow, too, where that is the workflow's own time."""
    with guards.lifted():
        return time.time()


def real_counter() -> float:
    """`time.perf_counter`, likewise."""
    with guards.lifted():
        return time.perf_counter()


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """``aim``: what is wanted, in words; empty if nothing is."""

    name: str
    value: float
    unit: str
    aim: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Probed:
    """A probe on a store: by name of a reading the spread of its rounds, its unit and its aim."""

    probe: str
    title: str
    store: str
    loop: str
    rounds: int
    values: dict[str, tuple[Spread, str, str]]
    conditions: Conditions


def probed(
    name: str, title: str, store: str, rounds: Sequence[Sequence[Reading]], conditions: Conditions
) -> Probed:
    """All rounds of a probe; each must give the same readings."""
    values = {
        one.name: (spread([found[at].value for found in rounds]), one.unit, one.aim)
        for at, one in enumerate(rounds[0])
    }
    return Probed(
        probe=name,
        title=title,
        store=store,
        loop=loops.chosen(),
        rounds=len(rounds),
        values=values,
        conditions=conditions,
    )


def lateness(seconds: Sequence[float], what: str, aims: tuple[str, str] = ("", "")) -> list[Reading]:
    """The p50 and p99 of some times, in milliseconds."""
    return [
        Reading(name=f"{what}, p{percent}", value=percentile(seconds, percent) * 1e3, unit="ms", aim=aim)
        for percent, aim in zip((50, 99), aims, strict=True)
    ]


async def until(condition: Callable[[], bool]) -> None:
    """Look every 10 ms: workflows have nothing to tell that to that would cost them no time."""
    while not condition():  # noqa: ASYNC110
        await asyncio.sleep(0.01)


def table(found: Sequence[Probed]) -> str:
    """One line a reading; medians."""
    rows = [("probe", "store", "what", "median", "(spread)", "unit", "aim")]
    for one in found:
        for name, (values, unit, aim) in one.values.items():
            around = f"({values.least:,.4g}-{values.most:,.4g})" if one.rounds > 1 else ""
            store = one.store + (" *" if one.conditions.busy else "")
            rows.append((one.probe, store, name, f"{values.median:,.4g}", around, unit, aim))
    return aligned(rows, left=7)
