"""Updates inside a run: from the message to the answer.

An update that comes before its function is defined waits for it, if a function of that name is nested in the
workflow; any other unknown name is rejected at once. The validator is asked when the function is there; then the
function runs as a task of the run. Each update gets exactly one answer, a `FinishUpdate` command.
"""

from __future__ import annotations

import asyncio
import inspect
from typing import Any

from durable.core.commands import FinishUpdate
from durable.core.context import Handler, RunContext
from durable.core.failure import failure_of
from durable.core.patches import names_in
from durable.errors import PayloadError, UpdateRejected


class Updates:
    """The updates of one run."""

    def __init__(self, run: RunContext) -> None:
        self._run = run
        self._waiting: dict[str, list[str]] = {}
        run.on_update_defined = self._defined

    def request(self, key: str, name: str, args: str) -> None:
        """An update arrived (called inside a step)."""
        if key in self._run.open_updates:
            return
        self._run.open_update(key, name, args)
        handler = self._run.updates.get(name)
        if handler is not None:
            self._begin(key, handler)
        elif name in names_in(self._run.definition.fn):
            self._waiting.setdefault(name, []).append(key)
        else:
            known = ", ".join(sorted(self._run.updates)) or "none"
            self._reject(key, UpdateRejected(f"there is no update {name!r}; known are: {known}"))

    def _defined(self, name: str) -> None:
        if name in self._waiting:
            # Not at once: a validator may follow the function that was just defined.
            self._run.loop.call_soon(self._begin_waiting, name)

    def _begin_waiting(self, name: str) -> None:
        for key in self._waiting.pop(name, ()):
            self._begin(key, self._run.updates[name])

    def _begin(self, key: str, handler: Handler) -> None:
        name, payload = self._run.open_updates[key]
        try:
            args, kwargs = self._run.converter.decode_args(payload, handler.signature, f"update {name!r}")
        except PayloadError as error:
            self._reject(key, UpdateRejected(str(error)))
            return
        if handler.validator is not None:
            try:
                with self._run.read_only("a validator"):
                    handler.validator(*args, **kwargs)
            except Exception as error:
                rejected = UpdateRejected(f"update {name!r} was refused: {error}")
                rejected.__cause__ = error
                self._reject(key, rejected)
                return
        self._run.loop.create_task(self._handle(key, name, handler, args, kwargs), name=f"update {name}")

    async def _handle(
        self, key: str, name: str, handler: Handler, args: list[Any], kwargs: dict[str, Any]
    ) -> None:
        try:
            value = handler.fn(*args, **kwargs)
            if inspect.isawaitable(value):
                value = await value
            result = self._run.converter.encode(value, handler.signature.result, f"result of update {name!r}")
            self._finish(key, result=result)
        except (Exception, asyncio.CancelledError) as error:
            self._finish(key, failure=self._run.converter.seal(failure_of(error).to_text()))

    def _reject(self, key: str, error: UpdateRejected) -> None:
        self._finish(key, failure=self._run.converter.seal(failure_of(error).to_text()), rejected=True)

    def _finish(
        self, key: str, *, result: str | None = None, failure: str | None = None, rejected: bool = False
    ) -> None:
        number = self._run.number()
        self._run.issue(
            FinishUpdate(number=number, key=key, result=result, failure=failure, rejected=rejected), number
        )
        del self._run.open_updates[key]
