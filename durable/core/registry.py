"""The registry of a worker: which name stands for which definition. Nothing that is stored can add to it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from durable.core.definition import ActivityDefinition, WorkflowDefinition


class Registry:
    """Definitions by name. Two different functions under one name (and version) raise ``ValueError``."""

    def __init__(self) -> None:
        self.activities: dict[str, ActivityDefinition] = {}
        self.workflows: dict[tuple[str, str], WorkflowDefinition] = {}

    def add_activity(self, definition: ActivityDefinition) -> None:
        known = self.activities.setdefault(definition.name, definition)
        if known.fn != definition.fn:
            raise ValueError(_twice("activity", definition.name, known.fn, definition.fn))

    def add_workflow(self, definition: WorkflowDefinition) -> None:
        known = self.workflows.setdefault((definition.name, definition.version), definition)
        if known.fn is not definition.fn:
            raise ValueError(_twice("workflow", definition.name, known.fn, definition.fn, definition.version))

    def workflow(self, name: str, version: str) -> WorkflowDefinition | None:
        return self.workflows.get((name, version))

    def functions(self) -> Iterator[Any]:
        """Every registered function."""
        definitions: Iterable[ActivityDefinition | WorkflowDefinition] = (
            *self.activities.values(),
            *self.workflows.values(),
        )
        return (definition.fn for definition in definitions)


def _twice(what: str, name: str, first: Any, second: Any, version: str = "") -> str:
    numbered = f" version {version!r}" if version else ""
    return (
        f"two {'activities' if what == 'activity' else 'workflows'} are called {name!r}{numbered}: {_where(first)} and "
        f"{_where(second)}. Give one of them another name: @durable.{what}(name=...)"
        + ("" if what == "activity" else " or another version=")
    )


def _where(fn: Any) -> str:
    code = getattr(fn, "__code__", None) or getattr(getattr(fn, "__func__", None), "__code__", None)
    place = f" ({code.co_filename}:{code.co_firstlineno})" if code else ""
    return f"{getattr(fn, '__module__', '?')}.{getattr(fn, '__qualname__', repr(fn))}{place}"
