"""What travels with the work and who looks on: chosen context variables as headers, and hooks.

Headers are text by text. A chosen `contextvars.ContextVar` becomes the header of its name, as JSON; it is set again in
the workflow, in its activities and in its children, each of which passes on the value that it has then.
"""

from __future__ import annotations

import contextlib
import contextvars
import logging
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from contextlib import AbstractContextManager, ExitStack, nullcontext
from typing import Any

import orjson

from durable.errors import PayloadError

_log = logging.getLogger("durable")
_UNSET = object()
_NOTHING: AbstractContextManager[Any] = nullcontext()


class Propagation:
    """The context variables that travel."""

    def __init__(self, variables: Iterable[contextvars.ContextVar[Any]] = ()) -> None:
        self._variables = tuple(variables)
        names = [variable.name for variable in self._variables]
        if len(set(names)) != len(names):
            raise ValueError(f"two of the chosen context variables have the same name: {names}")

    def headers(self, base: Mapping[str, str]) -> Mapping[str, str]:
        """``base`` with the present values. Raises `PayloadError` for a value that is no plain JSON."""
        if not self._variables:
            return base
        found = dict(base)
        for variable in self._variables:
            value = variable.get(_UNSET)
            if value is _UNSET:
                continue
            try:
                found[variable.name] = orjson.dumps(value, option=orjson.OPT_PASSTHROUGH_SUBCLASS).decode()
            except TypeError as error:
                raise PayloadError(
                    f"context variable {variable.name!r} is to travel, but its value is no plain JSON: {error}"
                ) from error
        return found

    def context(self, headers: Mapping[str, str]) -> contextvars.Context:
        """A context that holds nothing but what came with ``headers``."""
        context = contextvars.Context()
        if self._variables:
            context.run(self.restore, headers)
        return context

    def restore(self, headers: Mapping[str, str]) -> None:
        """Set the variables that came with ``headers`` in the current context."""
        for variable in self._variables:
            text = headers.get(variable.name)
            if text is not None:
                with contextlib.suppress(ValueError):  # a header of that name which is not ours
                    variable.set(orjson.loads(text))


NO_PROPAGATION = Propagation()


class Hooks:
    """Looks on: subclass it, override what you need, give it to ``connect(hooks=[...])``.

    A hook that raises is logged and changes nothing. None of them is called during replay of what was done before.
    """

    def on_start(self, workflow: str, instance_id: str, headers: MutableMapping[str, str]) -> None:
        """A client is about to start an instance; ``headers`` may be added to."""

    def on_signal(self, instance_id: str, name: str) -> None:
        """A client is about to send a signal."""

    def around_task(
        self, workflow: str, instance_id: str, headers: Mapping[str, str]
    ) -> AbstractContextManager[Any]:
        """Around each workflow task of a worker (a stretch of progress of one run; synchronous)."""
        return nullcontext()

    def around_activity(
        self, activity: str, instance_id: str, attempt: int, headers: Mapping[str, str]
    ) -> AbstractContextManager[Any]:
        """Around each attempt of an activity, on the worker that runs it."""
        return nullcontext()


class HookList:
    """The hooks of one client and its workers, called in order."""

    def __init__(self, hooks: Iterable[Hooks] = ()) -> None:
        self._hooks = tuple(hooks)

    def on_start(self, workflow: str, instance_id: str, headers: MutableMapping[str, str]) -> None:
        for hook in self._hooks:
            with _harmless(hook):
                hook.on_start(workflow, instance_id, headers)

    def on_signal(self, instance_id: str, name: str) -> None:
        for hook in self._hooks:
            with _harmless(hook):
                hook.on_signal(instance_id, name)

    def around_task(
        self, workflow: str, instance_id: str, headers: Mapping[str, str]
    ) -> AbstractContextManager[Any]:
        if not self._hooks:
            return _NOTHING
        return self._around(lambda hook: hook.around_task(workflow, instance_id, headers))

    def around_activity(
        self, activity: str, instance_id: str, attempt: int, headers: Mapping[str, str]
    ) -> AbstractContextManager[Any]:
        if not self._hooks:
            return _NOTHING
        return self._around(lambda hook: hook.around_activity(activity, instance_id, attempt, headers))

    def _around(self, enter: Any) -> AbstractContextManager[Any]:
        stack = ExitStack()
        for hook in self._hooks:
            with _harmless(hook):
                stack.enter_context(_Guarded(hook, enter(hook)))
        return stack


NO_HOOKS = HookList()


class _Guarded(AbstractContextManager[None]):
    """A hook's context manager whose exit can neither raise nor swallow what happened inside."""

    def __init__(self, hook: Hooks, inner: AbstractContextManager[Any]) -> None:
        self._hook = hook
        self._inner = inner

    def __enter__(self) -> None:
        self._inner.__enter__()

    def __exit__(self, *failure: Any) -> None:
        with _harmless(self._hook):
            self._inner.__exit__(*failure)


@contextlib.contextmanager
def _harmless(hook: Hooks) -> Iterator[None]:
    try:
        yield
    except Exception:
        _log.exception("hook %s failed; the work goes on", type(hook).__qualname__)


def with_headers(options: str, headers: Mapping[str, str]) -> str:
    """The text of an activity's options (a JSON object) with headers in it."""
    if not headers:
        return options
    comma = "" if options == "{}" else ","
    return f'{{"headers":{orjson.dumps(dict(headers)).decode()}{comma}{options[1:]}'


def headers_of(options: str) -> dict[str, str]:
    """The headers in a text of `with_headers`."""
    if not options.startswith('{"headers":'):
        return {}
    try:
        found = orjson.loads(options)["headers"]
    except ValueError:
        return {}
    return {str(name): str(value) for name, value in found.items()} if isinstance(found, dict) else {}
