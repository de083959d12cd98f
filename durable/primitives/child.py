"""Children: instances that a workflow starts, and handles to other instances that it may signal or cancel."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator, Mapping
from typing import Any, Generic, Literal, TypeVar, overload

from durable.core.commands import SendCancel, SendSignal, StartChild
from durable.core.context import RunContext, current_run
from durable.core.ids import check_id, derived_run_id
from durable.core.messages import PARENT_CANCELLED
from durable.primitives.signal import Signal, signal_payload

R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)
ParentClose = Literal["terminate", "cancel", "abandon"]


class InstanceHandle:
    """Another instance, as workflow code sees it: made by `get_instance`, without I/O."""

    def __init__(self, run: RunContext, instance_id: str, run_id: str | None = None) -> None:
        self._run = run
        self._run_id = run_id
        self.id = instance_id

    def __repr__(self) -> str:
        return f"<instance {self.id!r}>"

    @overload
    async def signal(self, signal: Signal[R], value: R) -> None: ...

    @overload
    async def signal(self, signal: str, value: Any = None) -> None: ...

    async def signal(self, signal: Signal[Any] | str, value: Any = None) -> None:
        """Send a signal. Raises `InstanceNotFound`, `InstanceFinished`, `PayloadError`."""
        name, payload = signal_payload(self._run.converter, signal, value)
        number = self._run.number()
        command = SendSignal(
            number=number, instance_id=self.id, name=name, payload=payload, run_id=self._run_id
        )
        await _delivery(self._run, number, command)

    async def cancel(self, reason: str | None = None) -> None:
        """Ask the instance to cancel. Raises `InstanceNotFound`, `InstanceFinished`."""
        number = self._run.number()
        command = SendCancel(number=number, instance_id=self.id, reason=reason, run_id=self._run_id)
        await _delivery(self._run, number, command)


class ChildInstance(InstanceHandle, Generic[R_co]):
    """A child that was started by `start`. Awaiting it gives its result, or raises what it raised."""

    def __init__(
        self, run: RunContext, number: int, instance_id: str, run_id: str, decode: Callable[[str], Any]
    ) -> None:
        super().__init__(run, instance_id)
        self.run_id = run_id
        self._number = number
        self._asked = False
        self._started = run.wait_for(-number, lambda _: None)
        self._closed = run.wait_for(number, decode)

    async def started(self) -> None:
        """Wait until the child exists. Raises `InstanceAlreadyExists` if its id is taken."""
        await asyncio.shield(self._started)

    def __await__(self) -> Generator[Any, None, R_co]:
        return self._result().__await__()

    async def _result(self) -> R_co:
        try:
            result: R_co = await asyncio.shield(self._closed)
        except asyncio.CancelledError:
            if not self._closed.done():
                self._ask_to_cancel()
            raise
        return result

    def _ask_to_cancel(self) -> None:
        """Cancelling the task that awaits a child cancels the child, once; its end is not waited for."""
        run = self._run
        if self._asked:
            return
        self._asked = True
        if self._number in run.step.commands:  # not flushed: it never was
            del run.step.commands[self._number]
            run.pending.pop(-self._number, None)
            run.pending.pop(self._number, None)
            self._started.cancel()
            self._closed.cancel()
            return
        number = run.number()
        run.issue(SendCancel(number=number, instance_id=self.id, reason=PARENT_CANCELLED), number)


def start_child(
    run: RunContext,
    definition: Any,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    *,
    id: str | None = None,
    queue: str | None = None,
    parent_close: ParentClose = "terminate",
) -> ChildInstance[Any]:
    """Start a child of ``run``; see `durable.start`."""
    what = f"workflow {definition.name!r}"
    if id is not None:
        check_id(id, "the id of a child")
    payload = run.converter.encode_args(definition.signature, args, dict(kwargs), what)
    number = run.number()
    limit = definition.timeout_seconds
    child_run_id = derived_run_id(run.identity.run_id, number)
    command = StartChild(
        number=number,
        workflow=definition.name,
        version=definition.version,
        instance_id=f"{run.identity.run_id}/{number}" if id is None else id,
        run_id=child_run_id,
        args=payload,
        queue=queue or definition.queue or run.queue,
        close=parent_close,
        started_us=run.loop.now_us,
        timeout_us=None if limit is None else round(limit * 1e6),
        headers=dict(run.headers),
    )
    run.issue(command, number)

    def decode(result: str) -> Any:
        return run.converter.decode(result, definition.signature.result, f"result of {what}")

    return ChildInstance(run, number, command.instance_id, child_run_id, decode)


def get_instance(id: str) -> InstanceHandle:
    """A handle to any other instance, to signal or cancel it. Raises ``RuntimeError`` outside of a workflow."""
    return InstanceHandle(current_run("durable.get_instance()"), check_id(id, "the id of an instance"))


async def _delivery(run: RunContext, number: int, command: SendSignal | SendCancel) -> None:
    run.issue(command, number)
    await run.wait_for(number, lambda _: None)
