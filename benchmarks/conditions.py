"""What a figure was taken under: when, on what, and how much of the machine others had meanwhile.

A load average counts this program's own work too, so that it says little in the middle of a run. What others take is
therefore looked at while nothing of ours runs, before and after each line.
"""

from __future__ import annotations

import datetime
import os
import platform
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

BUSY_CORES = 0.25
"""Others that take more than this much of a core make a line doubtful; it is marked in every table."""
PACKAGES = ("asyncpg", "aiomysql", "asyncmy", "orjson", "uvloop")
_LOOK_SECONDS = 0.25
_STAT = Path("/proc/stat")


@dataclass(slots=True, kw_only=True)
class Conditions:
    """Of one line. ``others_cores``: cores that others took, the larger of before and after; ``None``: not known.

    ``load_average``: of one minute, before the line; it has the lines before in it.
    """

    taken_at: str
    load_average: float
    others_cores: float | None

    @property
    def busy(self) -> bool:
        """Was the machine somebody else's, too?"""
        return self.others_cores is not None and self.others_cores > BUSY_CORES


@contextmanager
def noted() -> Iterator[Conditions]:
    """The conditions of what is measured in the block; complete when it ends."""
    found = Conditions(taken_at=now(), load_average=os.getloadavg()[0], others_cores=cores_in_use())
    yield found
    after = cores_in_use()
    if found.others_cores is not None and after is not None:
        found.others_cores = max(found.others_cores, after)


def now() -> str:
    """This second, in UTC, as it stands in the JSON files."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def cores_in_use(seconds: float = _LOOK_SECONDS) -> float | None:
    """How many cores work while we do not; what a hypervisor takes counts. ``None`` where the kernel does not say."""
    before = _busy_ticks()
    if before is None:
        return None
    time.sleep(seconds)
    after = _busy_ticks()
    assert after is not None
    return (after - before) / os.sysconf("SC_CLK_TCK") / seconds


def _busy_ticks() -> int | None:
    """The kernel's count of the ticks in which a core did something, all cores together."""
    try:
        words = _STAT.read_text().split("\n", 1)[0].split()[1:]
    except OSError:
        return None
    ticks = [int(word) for word in words]
    return sum(ticks[:3]) + sum(ticks[5:8])  # user, nice, system; interrupts, and what the hypervisor took


def machine() -> dict[str, Any]:
    """What does not change during a run."""
    return {
        "cores": os.cpu_count(),
        "processor": _processor(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "packages": {name: version for name in PACKAGES if (version := _version(name)) is not None},
        "load_before": os.getloadavg()[0],
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
