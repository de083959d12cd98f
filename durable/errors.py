"""Every error that the engine raises to its users, on one page.

    DurableError
    ├── InstanceNotFound              no instance (or run) has this id
    ├── InstanceAlreadyExists         an unfinished run has this id
    ├── InstanceFinished              the run has ended, so it cannot be asked for this
    ├── WorkflowFailed                the workflow raised; ``__cause__`` is what it raised
    ├── WorkflowCancelled             the workflow ended by cancellation
    ├── WorkflowTerminated            the instance was ended from outside, without clean-up
    ├── ActivityTimeout (TimeoutError)   a time limit of an activity ran out; ``.kind`` says which
    ├── WorkerLost                    the worker that ran the activity died
    ├── RemoteError                   an exception whose class is not known here
    ├── NonDeterminismError           replay asked for something else than history holds
    ├── ForbiddenInWorkflow           workflow code reached for the outside world
    ├── PayloadError (ValueError)     a value cannot be encoded, or does not come back equal
    │   └── PayloadTooLarge           an encoded value is over the limit
    ├── QueryFailed                   a query's function raised, or nobody could answer it
    ├── UpdateRejected                an update was unknown, malformed or refused by its validator
    ├── BackendError                  the store could not be reached, or refused
    ├── NonRetryable                  raised *by* activities: fail now, do not try again
    └── RetryAfter                    raised *by* activities: try again after this delay

Waiting too long is the built-in ``TimeoutError``; wrong arguments are the built-in ``TypeError``. The engine's own
signals (leaving a run, continuing as new) derive from ``BaseException``, so that ``except Exception`` in a workflow
cannot swallow them.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from functools import cache
from typing import Any


class DurableError(Exception):
    """The base of every error of the engine."""


class InstanceNotFound(DurableError):
    """No instance has this id, or the instance has no run with this run id."""


class InstanceAlreadyExists(DurableError):
    """An unfinished run has this id; at most one may."""


class InstanceFinished(DurableError):
    """The instance has ended, so it takes no signal, cancel, pause or update any more."""


class WorkflowFailed(DurableError):
    """The workflow ended with an exception, which is this error's ``__cause__``."""


class WorkflowCancelled(DurableError):
    """The workflow ended because it was cancelled."""


class WorkflowTerminated(DurableError):
    """The instance was terminated from outside, without running its clean-up."""


class ActivityTimeout(DurableError, TimeoutError):
    """A time limit of an activity ran out.

    ``kind`` is ``"timeout"`` (one attempt), ``"queue"`` (waiting for a worker) or ``"heartbeat"`` (silence).
    """

    def __init__(self, message: str = "", kind: str = "timeout") -> None:
        super().__init__(message)
        self.kind = kind

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


class WorkerLost(DurableError):
    """The worker that ran the activity was lost, and the activity may not be (or was too often) started again."""


class RemoteError(DurableError):
    """An exception whose class this worker did not have when it started.

    It is also an instance of its nearest built-in base, so ``except ValueError`` still works. ``type`` is the name
    of the original class, ``message`` its text, ``traceback`` where it was raised (text, capped).
    """

    def __init__(self, message: str = "", *, type: str = "Exception", traceback: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.type = type
        self.traceback = traceback

    def __str__(self) -> str:
        return f"{self.type}: {self.message}" if self.message else self.type


@cache
def remote_error_class(base: type[Exception] | None) -> type[RemoteError]:
    """The subclass of `RemoteError` that is also a ``base`` (a built-in exception class), or `RemoteError` itself.

    A base that cannot be combined, because it wants arguments of its own (``UnicodeDecodeError``, ``ExceptionGroup``),
    is replaced by its nearest base that can.
    """
    for candidate in base.__mro__ if base is not None else ():
        if candidate is Exception:
            break
        made = _combined_with(candidate)
        if made is not None:
            return made
    return RemoteError


def _combined_with(base: type) -> type[RemoteError] | None:
    def __init__(
        self: RemoteError, message: str = "", *, type: str = "Exception", traceback: str = ""
    ) -> None:
        RemoteError.__init__(self, message, type=type, traceback=traceback)

    body: dict[str, Any] = {
        "__init__": __init__,
        "__module__": RemoteError.__module__,
        "__qualname__": "RemoteError",
    }
    try:
        made: type[RemoteError] = type("RemoteError", (RemoteError, base), body)
        made("probe", type="probe")
    except TypeError:
        return None
    return made


class NonDeterminismError(DurableError):
    """The code asked for something else than the history of the run holds.

    ``expected`` describes the event that history holds, ``actual`` what the code did; ``file`` and ``line`` say
    where in the workflow, ``task`` in which of its tasks, ``event`` is the number of the event. ``arguments`` has a
    line for each argument that differs, where both asked for the same kind of thing.
    """

    def __init__(
        self,
        message: str = "",
        *,
        expected: str = "",
        actual: str = "",
        file: str = "",
        line: int = 0,
        event: int = 0,
        task: str = "",
        arguments: Sequence[str] = (),
    ) -> None:
        super().__init__(message)
        self.expected = expected
        self.actual = actual
        self.file = file
        self.line = line
        self.event = event
        self.task = task
        self.arguments = tuple(arguments)


class ForbiddenInWorkflow(DurableError):
    """Workflow code did what only an activity may do: I/O, threads, blocking, another loop."""


class PayloadError(DurableError, ValueError):
    """A value does not fit its annotation, cannot be encoded, or does not come back equal."""


class PayloadTooLarge(PayloadError):
    """An encoded value is larger than ``connect(max_payload=)``."""


class QueryFailed(DurableError):
    """A query could not be answered: its function raised, its name is unknown, or no worker has the code."""


class UpdateRejected(DurableError):
    """An update was unknown, had arguments that do not fit, or was refused by its validator; nothing was changed."""


class BackendError(DurableError):
    """The store could not be reached, is not what it should be, or refused a request."""


class NonRetryable(DurableError):
    """Raise it in an activity to fail at once, whatever the retry policy says."""


class RetryAfter(DurableError):
    """Raise it in an activity to be tried again after ``delay`` (seconds, or a ``timedelta``)."""

    def __init__(self, delay: float | timedelta, message: str = "") -> None:
        self.delay_seconds = delay.total_seconds() if isinstance(delay, timedelta) else float(delay)
        super().__init__(message or f"to be retried after {self.delay_seconds} s")
