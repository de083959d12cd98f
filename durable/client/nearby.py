"""A worker in the same process that may begin what a client starts, without the detour of a claim."""

from __future__ import annotations

import asyncio
from typing import Any, Protocol

from durable.backends.records import HeldLease, NewInstance


class Nearby(Protocol):
    """What a client asks before it creates an instance."""

    def lease_for(self, new: NewInstance) -> HeldLease | None:
        """The lease to be born with; ``None``: it is to be claimed by somebody. After a lease `answered` follows."""
        ...

    def answered(self, new: NewInstance, answer: asyncio.Future[tuple[Any, int]]) -> None:
        """What the store said. Called from a plain callback of the loop."""
        ...

    def is_ending(self, run_id: str | None) -> bool:
        """Whether it is just writing the end of this run. Then it calls `Waiting.told`, or `Waiting.look`."""
        ...
