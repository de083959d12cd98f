"""A layer over a store that passes every call on; mutants override the call that they get wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from durable.backends.contract import Backend
from durable.backends.records import Answer, Head, InstanceRef


class Layer:
    """Passes on what it does not override."""

    def __init__(self, store: Backend) -> None:
        self.store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store, name)

    async def head(self, instance_id: str, run_id: str) -> Head | None:
        """Where a run stands."""
        view = (await self.store.get([InstanceRef(instance_id=instance_id, run_id=run_id)])).items[0]
        return view.head if view is not None else None


def with_items(answer: Answer[Any], items: Sequence[Any]) -> Answer[Any]:
    """The same answer with other items."""
    return replace(answer, items=tuple(items))
