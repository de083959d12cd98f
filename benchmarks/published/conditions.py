"""In a sentence: when, on what, and what else the machine did."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from benchmarks.conditions import BUSY_CORES
from benchmarks.published.kept import KEYS

SERVERS = {"postgres": "PostgreSQL", "mysql": "MariaDB"}


def sentence(made: Mapping[str, Any]) -> str:
    """Of a published file."""
    machine, lines = made["machine"], list(_lines(made))
    days = sorted(line["conditions"]["taken_at"] for line in lines)
    marked = sum((line["conditions"]["others_cores"] or 0.0) > BUSY_CORES for line in lines)
    servers = [f"{SERVERS[name]} {version}" for name, version in machine.get("servers", {}).items()]
    packages = [f"{name} {version}" for name, version in machine["packages"].items()]
    parts = [
        f"Measured {_minute(days[0])} to {_until(days)} UTC, on {machine['cores']} cores "
        f"({machine['processor']}), {machine['system']}, Python {machine['python']}, "
        + ", ".join([f"SQLite {machine['sqlite']}", *servers, *packages, *_peers(made)])
        + ".",
        f"Load average before the (last) run: {machine['load_before']:.1f}.",
    ]
    if marked:
        parts.append(
            f"**{marked} of {len(lines)} lines are marked \\*: other programs took more than {BUSY_CORES:g} cores "
            "just before or after them; trust their ratios and CPU times, not their rates.**"
        )
    return " ".join(parts)


def _lines(made: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for name in KEYS:
        yield from made.get(name, ())


def _peers(made: Mapping[str, Any]) -> list[str]:
    return [
        f"{package} {version}"
        for name, packages in made.get("versions", {}).items()
        if name != "durable"
        for package, version in packages.items()
        if name.split("-")[0] in package
    ]


def _until(days: list[str]) -> str:
    """Without the day, if it is the same."""
    return _minute(days[-1])[11 * (days[0][:10] == days[-1][:10]) :]


def _minute(moment: str) -> str:
    return moment[:16].replace("T", " ")
