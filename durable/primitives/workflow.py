"""Workflows: deterministic coroutine functions. Calling one in another workflow starts it as a child and waits."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any, Generic, NoReturn, ParamSpec, TypedDict, TypeVar, TypeVarTuple, Unpack, overload

from durable.core.context import ContinueAsNew, RunContext, current_run, run_or_none
from durable.core.definition import WorkflowDefinition
from durable.core.ids import check_id
from durable.core.retry import seconds
from durable.core.signature import CallSignature
from durable.primitives.child import ChildInstance, ParentClose, start_child

P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)
Ts = TypeVarTuple("Ts")


class WorkflowKeywords(TypedDict, total=False):
    """The keywords of ``@durable.workflow``. ``timeout`` (seconds or ``timedelta``) covers all runs of an instance."""

    name: str
    version: str
    queue: str | None
    timeout: float | timedelta | None


class OptionKeywords(WorkflowKeywords, total=False):
    """The keywords of ``.options``: those of the decorator, and the child's ``id``."""

    id: str


class Workflow(Generic[P, R_co]):
    """A decorated coroutine function. `definition` is what workers register."""

    def __init__(self, definition: WorkflowDefinition, child_id: str | None = None) -> None:
        self.definition = definition
        self._child_id = child_id
        functools.update_wrapper(self, definition.fn, updated=())

    def __repr__(self) -> str:
        return f"<workflow {self.definition.name!r}>"

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[None, None, R_co]:
        """In a workflow: a coroutine that starts a child when first awaited, and gives its result.

        Raises `TypeError` at once for arguments that do not fit; awaiting raises `PayloadError`,
        `InstanceAlreadyExists`, or what the child raised. Elsewhere it calls the function.
        """
        run = run_or_none()
        if run is None:
            called: Coroutine[None, None, R_co] = self.definition.fn(*args, **kwargs)
            return called
        self.definition.signature.bind(args, kwargs)
        return self._as_child(run, args, kwargs)

    async def _as_child(self, run: RunContext, args: tuple[Any, ...], kwargs: dict[str, Any]) -> R_co:
        child: ChildInstance[R_co] = start_child(run, self.definition, args, kwargs, id=self._child_id)
        return await child

    def options(self, **keywords: Unpack[OptionKeywords]) -> Workflow[P, R_co]:
        """A copy with other options: ``await other.options(id="o-1")(args)``."""
        keywords = keywords.copy()
        child_id = keywords.pop("id", self._child_id)
        return Workflow(_with(self.definition, keywords), child_id)


@overload
def workflow(fn: Callable[P, Coroutine[Any, Any, R]], /) -> Workflow[P, R]: ...


@overload
def workflow(**keywords: Unpack[WorkflowKeywords]) -> _Decorator: ...


def workflow(fn: Callable[..., Any] | None = None, /, **keywords: Unpack[WorkflowKeywords]) -> Any:
    """Make an ``async def`` function a workflow: ``@durable.workflow`` or ``@durable.workflow(name=, version=, ...)``.

    Raises `TypeError` for anything but an ``async def`` function.
    """
    if fn is None:
        return _Decorator(keywords)
    return _define(fn, keywords)


class _Decorator:
    def __init__(self, keywords: WorkflowKeywords) -> None:
        self._keywords = keywords

    def __call__(self, fn: Callable[P, Coroutine[Any, Any, R]], /) -> Workflow[P, R]:
        return _define(fn, self._keywords)


def _define(fn: Callable[..., Any], keywords: WorkflowKeywords) -> Workflow[Any, Any]:
    if isinstance(fn, Workflow):
        raise TypeError(f"{fn!r} is a workflow already: use .options(...) to change its options")
    if inspect.isfunction(fn) and not inspect.iscoroutinefunction(fn):
        kind = "an async generator" if inspect.isasyncgenfunction(fn) else "a plain def"
        place = f"{fn.__code__.co_filename}:{fn.__code__.co_firstlineno}"
        raise TypeError(f"workflow {fn.__name__!r} ({place}) is {kind}: a workflow is an async def function")
    if not inspect.iscoroutinefunction(fn):
        raise TypeError(f"@durable.workflow takes an async def function, not {fn!r}")
    name = keywords.get("name", fn.__name__)
    return Workflow(
        _with(WorkflowDefinition(name=name, fn=fn, signature=CallSignature(fn, name=name)), keywords)
    )


def _with(definition: WorkflowDefinition, keywords: Mapping[str, Any]) -> WorkflowDefinition:
    unknown = keywords.keys() - WorkflowKeywords.__annotations__.keys()
    if unknown:
        raise TypeError(f"a workflow has no option {sorted(unknown)[0]!r}")
    changes = {key: value for key, value in keywords.items() if key != "timeout"}
    check_id(changes.get("name", definition.name), "the name of a workflow")
    if changes.get("queue") is not None:
        check_id(changes["queue"], "a queue")
    if "version" in changes:
        changes["version"] = str(changes["version"])
    if "timeout" in keywords:
        changes["timeout_seconds"] = seconds(keywords["timeout"], "timeout")
    return replace(definition, **changes)


@overload
def start(
    workflow: Callable[[*Ts], Coroutine[Any, Any, R]],
    *args: *Ts,
    id: str | None = None,
    queue: str | None = None,
    parent_close: ParentClose = "terminate",
) -> ChildInstance[R]: ...


@overload
def start(
    workflow: Workflow[..., R],
    *args: Any,
    kwargs: Mapping[str, Any],
    id: str | None = None,
    queue: str | None = None,
    parent_close: ParentClose = "terminate",
) -> ChildInstance[R]: ...


def start(  # type: ignore[misc]  # mypy does not match *Ts with the implementation's *args
    workflow: Any,
    *args: Any,
    kwargs: Mapping[str, Any] | None = None,
    id: str | None = None,
    queue: str | None = None,
    parent_close: ParentClose = "terminate",
) -> ChildInstance[Any]:
    """Start a child and give its handle at once; awaiting the handle gives the child's result.

    ``id`` defaults to ``<run id of the parent>/<number of the command>``, ``queue`` to the parent's. ``parent_close``
    says what the end of this run means for the child. Raises `TypeError` for arguments that do not fit, `PayloadError`
    for those that cannot be encoded.
    """
    run = current_run("durable.start()")
    if not isinstance(workflow, Workflow):
        raise TypeError(f"durable.start() takes a workflow, not {workflow!r}")
    if parent_close not in ("terminate", "cancel", "abandon"):
        raise ValueError(f"parent_close must be 'terminate', 'cancel' or 'abandon', not {parent_close!r}")
    definition = workflow.definition
    return start_child(run, definition, args, kwargs or {}, id=id, queue=queue, parent_close=parent_close)


def continue_as_new(*args: Any, **kwargs: Any) -> NoReturn:
    """End this run and start the next one under the same id, with these arguments. Does not return."""
    run = current_run("durable.continue_as_new()")
    run.check_open()
    raise ContinueAsNew(args, kwargs, run.headers)
