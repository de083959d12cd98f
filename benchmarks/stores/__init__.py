"""The stores that are measured, each with the floor beside it: ``memory``, ``sqlite``, ``postgres``, ``mysql``.

A store gives the URL of a new, empty database for each round, a recorder that notes what the engine writes there, and
a bare program that writes the same again. PostgreSQL and MariaDB are private servers (`durable.testing.servers`) whose
commits reach the disk; they run from the first use to the end of the program, engine and floor on the same one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from importlib import import_module, util
from pathlib import Path
from typing import Protocol

from benchmarks.measured import Measured
from benchmarks.tape import Tape
from durable.testing.servers import Unavailable

STORES = ("memory", "sqlite", "postgres", "mysql")
DRIVERS = {"postgres": ("postgres",), "mysql": ("mysql", "mysql/asyncmy")}
"""What is measured in the place of a name on the command line: MariaDB with both drivers, where both are installed."""


class Floor(Protocol):
    """Something to measure the engine against."""

    def run(self, url: str) -> Measured:
        """One round in this new store, whose tables the engine has made."""
        ...


class Store(Protocol):
    """A kind of store. ``floor_kind`` says in words what its floor is; ``version``: of the server, if it has one."""

    name: str
    floor_kind: str
    version: str

    def new(self) -> AbstractContextManager[str]:
        """The URL of a new, empty store, which is removed at the end of the block."""
        ...

    def recording(self, tape: Tape) -> AbstractContextManager[None]:
        """Connections that are opened inside write down what they do."""
        ...

    def floor(self, tape: Tape) -> Floor:
        """What writes the rows of a tape."""
        ...


def chosen(names: tuple[str, ...]) -> list[str]:
    """The stores behind the names; without names all, also those that this machine may not have."""
    found = [each for name in (names or STORES) for each in DRIVERS.get(name, (name,))]
    return [name for name in dict.fromkeys(found) if "/" not in name or util.find_spec(name.split("/")[1])]


@contextmanager
def opened(
    directory: Path | None, missing: Callable[[str, str], None]
) -> Iterator[Callable[[str], Store | None]]:
    """Gives a store by its name, and ends at the end of the block the servers that were started for it.

    ``directory``: where database files are. What this machine cannot run is ``None``, and ``missing`` is told why.
    """
    kept: dict[str, Store | None] = {}
    with ExitStack() as stack:

        def open_store(name: str) -> Store | None:
            if name not in kept:
                module = import_module(f"benchmarks.stores.{name.split('/', maxsplit=1)[0]}")
                try:
                    kept[name] = stack.enter_context(module.opened(name, directory))
                except Unavailable as problem:
                    missing(name, str(problem))
                    kept[name] = None
            return kept[name]

        yield open_store
