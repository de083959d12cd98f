"""Would this code go on with the instances of a live store? Every open one is replayed, and a sample of the closed.

Nothing is written and no activity runs: histories are read, and workflow code runs over them as in any replay. What
has happened since the history was read is another matter, so a check is a gate for deployments and no guarantee.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from durable.backends.records import CLOSED_STATES, OPEN_STATES
from durable.client import Client, Description
from durable.core.payload import Codec
from durable.errors import DurableError, InstanceNotFound, NonDeterminismError
from durable.primitives.workflow import Workflow
from durable.testing.replayer import replay

Workflows: TypeAlias = Mapping[tuple[str, str], Workflow[..., Any]]
"""By name and version."""
Verdict = Literal["agrees", "diverges", "no version", "no code"]

STEP_SECONDS = 10.0
"""Code that goes on for so long without awaiting anything would be interrupted by a worker, too."""
_PAGE = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """What became of one run. ``report`` says why, unless it agrees."""

    instance_id: str
    run_id: str
    workflow: str
    version: str
    state: str
    verdict: Verdict
    report: str = ""
    file: str = ""
    line: int = 0
    event: int = 0

    @property
    def is_open(self) -> bool:
        return self.state in OPEN_STATES


async def check(
    client: Client, workflows: Workflows, *, closed: int = 100, codec: Codec | None = None
) -> AsyncIterator[Checked]:
    """Replay every open instance, then the ``closed`` newest ones that have ended.

    ``codec`` is that of the client. A run whose workflow is not among ``workflows`` gets the verdict "no code", one
    whose workflow is there in other versions only "no version": nobody would go on with it.
    """
    async for found in _instances(client, OPEN_STATES, None):
        if (checked := await _checked(client, workflows, found, codec)) is not None:
            yield checked
    async for found in _instances(client, CLOSED_STATES, closed):
        if (checked := await _checked(client, workflows, found, codec)) is not None:
            yield checked


async def _instances(client: Client, states: Iterable[Any], most: int | None) -> AsyncIterator[Description]:
    cursor, left = None, most
    while left is None or left > 0:
        limit = _PAGE if left is None else min(left, _PAGE)
        page = await client.list_instances(state=sorted(states), limit=limit, cursor=cursor)
        for item in page.items:
            yield item
        left = None if left is None else left - len(page.items)
        cursor = page.cursor
        if cursor is None:
            return


async def _checked(
    client: Client, workflows: Workflows, found: Description, codec: Codec | None
) -> Checked | None:
    """None for a run that is gone by now."""
    workflow = workflows.get((found.workflow, found.version))
    if workflow is None:
        return _without_code(workflows, found)
    try:
        history = await client.export_history(found.id, found.run_id)
    except InstanceNotFound:
        return None
    try:
        replay(workflow, history, codec=codec, step_timeout=STEP_SECONDS)
    except NonDeterminismError as error:
        return _of(found, "diverges", report=str(error), file=error.file, line=error.line, event=error.event)
    except (DurableError, ValueError, TypeError, RecursionError, TimeoutError) as error:
        return _of(found, "diverges", report=f"{type(error).__name__}: {error}")
    return _of(found, "agrees")


def _without_code(workflows: Workflows, found: Description) -> Checked:
    versions = sorted(version for name, version in workflows if name == found.workflow)
    if not versions:
        return _of(found, "no code", report=f"no workflow is called {found.workflow!r} here")
    known = ", ".join(repr(version) for version in versions)
    report = f"workflow {found.workflow!r} has no version {found.version!r} here, only {known}"
    return _of(found, "no version", report=report)


def _of(found: Description, verdict: Verdict, **more: Any) -> Checked:
    return Checked(
        instance_id=found.id,
        run_id=found.run_id,
        workflow=found.workflow,
        version=found.version,
        state=found.state,
        verdict=verdict,
        **more,
    )
