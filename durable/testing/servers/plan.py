"""How one server for tests is to be run: what the keeper is told (see its docstring), and how its URL is made."""

from __future__ import annotations

import os
import signal
from dataclasses import asdict, dataclass, field
from pathlib import Path


class Unavailable(Exception):
    """There is no such server here, and none can be started. The text says what was looked for and what to type."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The fields are those of the keeper's table. ``url`` is a template with ``{port}``; ``source`` is for people."""

    service: str
    source: str
    url: str
    start: list[str]
    greeting: str
    prepare: list[list[str]] = field(default_factory=list)
    clean: list[list[str]] = field(default_factory=list)
    files: dict[str, str] = field(default_factory=dict)
    copies: dict[str, str] = field(default_factory=dict)
    environ: dict[str, str] = field(default_factory=dict)
    signals: dict[str, list[str]] | None = None
    user: str | None = None
    farewell: int = signal.SIGTERM
    death: int = signal.SIGKILL
    users: str | None = None
    record: str | None = None

    def as_message(self) -> dict[str, object]:
        return asdict(self)


def service_user(name: str) -> str | None:
    """Whose process the server is to be: ours, but root's servers are their own users' (they refuse to be root's)."""
    if os.geteuid() != 0:
        return None
    import pwd

    for candidate in (name, "nobody"):
        try:
            pwd.getpwnam(candidate)
        except KeyError:
            continue
        return candidate
    raise Unavailable(f"neither a user {name} nor a user nobody, and the server refuses to run as root")


def open_to_all(path: Path) -> bool:
    """Can another user than root reach the folder?"""
    return all(folder.stat().st_mode & 0o001 for folder in (path, *path.parents))
