"""Handing out, and handing out once more when the reply was lost.

The law "a repeated call has the effect of one" holds for claims too: without it, each lost reply would keep
rows from everybody until a lease runs out, and count as a worker that died of them. A claim is known by its
token.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any, Generic, TypeVar

from durable.backends.records import Claimant

T_co = TypeVar("T_co", covariant=True)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Handed(Generic[T_co]):
    """What a claim handed out, and whether nothing has happened to it since."""

    item: T_co
    stands: Callable[[], bool]


class Claims:
    """Remembers the last claim of each sort of each worker."""

    def __init__(self) -> None:
        self._last: dict[tuple[str, str], tuple[str, list[Handed[Any]]]] = {}

    def hand_out(self, sort: str, claimant: Claimant, limit: int, *sources: Iterator[Handed[T]]) -> list[T]:
        """Up to ``limit`` items; first those that this very claim was handed before, then new ones from the sources."""
        token, handed = self._last.pop((sort, claimant.worker_id), ("", []))
        again: list[Handed[T]] = [one for one in handed if token == claimant.token and one.stands()]
        given = [*again, *islice(chain(*sources), max(0, limit - len(again)))]
        if given:
            self._last[sort, claimant.worker_id] = (claimant.token, given)
        return [one.item for one in given]
