"""One server for all processes of a test run: whoever needs it first has it started, and it ends with the last of them.

A folder that the processes share holds three files for each service. ``.users`` is locked, shared, by all who use the
server; its keeper waits for the lock of its own, which the kernel gives it when the last of them is gone, however it
went. ``.lock`` is held while one looks whether there is a server and starts it. ``.record`` says where it is.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

from durable.testing.servers.plan import Plan, Unavailable
from durable.testing.servers.server import Keeper, Server


class Share:
    """One process's share in a server. ``server`` is there until ``leave`` is called, or the process ends."""

    def __init__(self, server: Server, users: IO[bytes]) -> None:
        self.server = server
        self._users = users

    def leave(self) -> None:
        """The last one's leaving ends the server."""
        self._users.close()


def join(folder: Path, service: str, start: Callable[[], tuple[Plan, ...]]) -> Share:
    """A share in the folder's server for ``service``, which is started with the first of the plans that works.

    Raises `Unavailable` with what is missing; it is written down too, so that it is not tried again by each process.
    """
    users = (folder / f"{service}.users").open("ab")
    try:
        fcntl.flock(users, fcntl.LOCK_SH)  # waits while the keeper of an earlier one is clearing away
        with _locked(folder / f"{service}.lock"):
            record = _read(folder / f"{service}.record") or _begin(folder, service, start)
        if "error" in record:
            raise Unavailable(record["error"])
    except BaseException:
        users.close()
        raise
    return Share(Server(service, record["source"], record["url"], record["pid"]), users)


def _begin(folder: Path, service: str, start: Callable[[], tuple[Plan, ...]]) -> dict[str, Any]:
    path = folder / f"{service}.record"
    try:
        record = _try(start(), str(folder / f"{service}.users"), str(path))
    except Unavailable as missing:
        record = {"error": str(missing)}
    new = path.with_suffix(".new")
    new.write_text(json.dumps(record))
    new.replace(path)
    return record


def _try(plans: tuple[Plan, ...], users: str, path: str) -> dict[str, Any]:
    problems = []
    for plan in plans:
        try:
            keeper = Keeper(replace(plan, users=users, record=path))
        except Unavailable as problem:
            problems.append(f"{plan.source}: {problem}")
            continue
        keeper.leave()
        url = plan.url.format(port=keeper.state["port"])
        return {
            "source": plan.source,
            "url": url,
            "pid": keeper.state["pid"],
            "keeper": keeper.state["keeper"],
        }
    raise Unavailable("\n".join(problems))


def _read(path: Path) -> dict[str, Any] | None:
    try:
        record: dict[str, Any] = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    return record if "error" in record or _lives(record["keeper"]) else None


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
