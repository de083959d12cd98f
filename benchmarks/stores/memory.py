"""The store in memory. It keeps nothing, so its floor is the workflows' functions, called as plain asyncio."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.stores import Floor
from benchmarks.tape import Tape


class Memory:
    """See `Store`."""

    name = "memory"
    version = ""
    floor_kind = "the same functions as plain asyncio, nothing kept"

    @contextmanager
    def new(self) -> Iterator[str]:
        """See `Store`."""
        yield "memory://"

    @contextmanager
    def recording(self, tape: Tape) -> Iterator[None]:
        """Nothing is written anywhere."""
        yield

    def floor(self, tape: Tape) -> Floor:
        """There are no rows: `benchmarks.floors` takes plain functions instead."""
        raise ValueError("the store in memory writes no rows")


@contextmanager
def opened(name: str, directory: Path | None) -> Iterator[Memory]:
    """See `benchmarks.stores.opened`."""
    yield Memory()
