"""Handing out once more what a claim was handed, when it is repeated because its reply was lost.

Without it each lost reply would keep rows from everybody until a lease runs out, and count as a worker that died of
them. A claim is known by its token. This is remembered in the process that claims: nobody else can repeat its claim.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, TypeVar

from durable.backends.records import Claimant

K = TypeVar("K", bound=Hashable)


class LastClaims(Generic[K]):
    """The keys that the last claim of each worker was handed, and until when it has them."""

    def __init__(self) -> None:
        self._last: dict[str, tuple[str, int, list[K]]] = {}

    def again(self, claimant: Claimant) -> tuple[int, list[K]]:
        """What this very claim was handed before (none: it is a new one), and the end of those leases."""
        token, until_us, keys = self._last.get(claimant.worker_id, ("", 0, []))
        return (until_us, list(keys)) if token == claimant.token else (0, [])

    def remember(self, claimant: Claimant, until_us: int, keys: list[K]) -> None:
        """This claim was handed these."""
        if keys:
            self._last[claimant.worker_id] = (claimant.token, until_us, keys)
        else:
            self._last.pop(claimant.worker_id, None)
