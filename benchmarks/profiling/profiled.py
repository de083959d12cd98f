"""CPU time of a workflow, by room: what py-spy saw, scaled to the time that the threads took by the kernel's count."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from benchmarks.conditions import Conditions
from benchmarks.profiling.rooms import ROOMS, room_of
from benchmarks.profiling.stacks import Seen

HOTTEST = 15


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """Microseconds of CPU a workflow."""

    room: str
    main_us: float
    others_us: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Profiled:
    """``main_us``: of the thread with client and worker; ``others_us``: of all other threads, the store's among them;
    ``server_us``: of the database server's processes.

    ``hottest``: functions with the most time of their own, with what is compiled and called by them.
    """

    workload: str
    store: str
    loop: str
    workflows: int
    samples: int
    main_us: float
    others_us: float
    server_us: float | None
    rooms: list[Room]
    hottest: list[tuple[str, float]]
    conditions: Conditions


def rooms_of(
    seen: Iterable[Seen], main_us: float, others_us: float
) -> tuple[list[Room], list[tuple[str, float]]]:
    """Shares of what was seen, as shares of the time."""
    by_room: Counter[tuple[bool, str]] = Counter()
    by_function: Counter[tuple[bool, str]] = Counter()
    for one in seen:
        by_room[one.main_thread, room_of(one.stack)] += one.times
        if one.stack:
            innermost = one.stack[-1]
            by_function[one.main_thread, f"{innermost.place}: {innermost.function}"] += one.times
    each = {
        main: us / max(1, sum(times for (which, _), times in by_room.items() if which is main))
        for main, us in ((True, main_us), (False, others_us))
    }
    rooms = [
        Room(
            room=room, main_us=by_room[True, room] * each[True], others_us=by_room[False, room] * each[False]
        )
        for room in ROOMS
    ]
    hot: Counter[str] = Counter()
    for (main, function), times in by_function.items():
        hot[function] += times * each[main]  # type: ignore[assignment]
    return rooms, [(function, us) for function, us in hot.most_common(HOTTEST)]
