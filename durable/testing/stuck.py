"""`Stuck`: an instance for which nothing more can happen, and the report that says why."""

from __future__ import annotations

from collections.abc import Sequence

from durable.backends.contract import Backend
from durable.backends.records import CLOSED_STATES, HistoryRange, InstanceRef, InstanceView
from durable.client.instance import description_of
from durable.core.context import RunIdentity
from durable.core.events import Event
from durable.core.failure import known_exceptions
from durable.core.history import decode_history
from durable.core.ids import is_open
from durable.core.payload import Converter
from durable.core.registry import Registry
from durable.core.replay import load
from durable.testing.beside import beside_any_loop
from durable.testing.waits import awaited, places

MOST_CHILDREN = 5


class Stuck(AssertionError):
    """Waited for an instance that would never go on. The message names what it waits for, and where."""


class Reports:
    """Says why instances do not go on."""

    def __init__(self, store: Backend, registry: Registry, converter: Converter) -> None:
        self._store = store
        self._registry = registry
        self._converter = converter

    async def view(self, ref: InstanceRef) -> InstanceView | None:
        """The run as the store has it."""
        return (await self._store.get([ref])).items[0]

    async def why(self, ref: InstanceRef, indent: str = "") -> str:
        """A sentence and a few lines on what the instance waits for, its children behind it."""
        view = await self.view(ref)
        if view is None:
            return f"{indent}instance {ref.instance_id!r} does not exist"
        lines = [f"{indent}instance {view.instance_id!r} (workflow {view.workflow!r}) {self._state(view)}"]
        lines += [f"{indent}  {line}" for line in await self._details(view)]
        children = (
            await self._store.children(InstanceRef(instance_id=view.instance_id, run_id=view.run_id), 100)
        ).items
        for child in [child for child in children if child.state not in CLOSED_STATES][:MOST_CHILDREN]:
            inside = InstanceRef(instance_id=child.instance_id, run_id=child.run_id)
            lines.append(await self.why(inside, indent + "  "))
        return "\n".join(lines)

    def _state(self, view: InstanceView) -> str:
        if view.state == "stalled":
            problem = description_of(view, self._converter).problem
            return f"is stalled: {problem.message if problem is not None else 'no report'}"
        if view.state == "paused":
            return "is paused" + (f": {view.reason}" if view.reason else "")
        return f"is {view.state}"

    async def _details(self, view: InstanceView) -> list[str]:
        definition = self._registry.workflow(view.workflow, view.version)
        if definition is None:
            version = f" version {view.version!r}" if view.version else ""
            return [
                f"the environment has no workflow {view.workflow!r}{version}: give it to Environment([...])"
            ]
        if view.state != "running":
            return []
        asked = [HistoryRange(instance_id=view.instance_id, run_id=view.run_id)]
        history = decode_history((await self._store.read_history(asked)).items[0].events)
        return beside_any_loop(lambda: self._looked(view, history))

    def _looked(self, view: InstanceView, history: Sequence[Event]) -> list[str]:
        definition = self._registry.workflow(view.workflow, view.version)
        assert definition is not None
        parent = None if view.parent is None else (view.parent.instance_id, view.parent.run_id)
        identity = RunIdentity(
            instance_id=view.instance_id, run_id=view.run_id, first_run_id=view.first_run_id, parent=parent
        )
        try:
            run = load(
                definition,
                identity,
                history,
                converter=self._converter,
                known=known_exceptions(),
                begun=True,
                open_ended=is_open(view.head.token),
            )
        except Exception as error:
            return [f"(its history could not be replayed: {type(error).__name__}: {error})"]
        try:
            waits = [f"it waits for {what}{self._hint(what)}" for what in awaited(run, history)]
            return [*waits, *map(str, places(run))]
        finally:
            run.drop()

    def _hint(self, what: str) -> str:
        """An activity that nobody has is the commonest reason of all."""
        if not what.startswith("activity "):
            return ""
        name = what.removeprefix("activity ").strip("'\"")
        if name in self._registry.activities:
            return ""
        return ", which the environment does not have: give it to Environment([...]), or env.mock it"
