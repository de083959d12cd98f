"""The process of activities with ``executor="process"``: the child's side of `durable.worker.processes`.

It reads requests from what was its standard input and writes replies to what was its standard output, one JSON object
per line; the function it runs gets an empty input, and what it prints goes to standard error. The function runs in the
main thread, one at a time, while a second thread reads. When the input ends, the worker is gone: an idle process then
ends as a program does, a busy one on the spot.

Which function is called is told by the worker, from what is registered there; nothing that is stored can choose it.
The codec stays with the worker as well, since it may hold keys: payloads travel here as the JSON beneath.

Requests are ``call``, ``cancel`` and ``token``; replies are ``begun``, ``heartbeat``, ``later`` (a token is wanted),
and one of ``result``, ``parked`` (no result yet), ``failure`` or ``refused`` (arguments or result did not fit their
annotations). Each carries the number of its call, so that a ``cancel`` that comes too late cannot hit the next one.
"""

from __future__ import annotations

import asyncio
import contextvars
import faulthandler
import importlib
import json
import os
import runpy
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import replace
from io import TextIOWrapper
from queue import SimpleQueue
from types import ModuleType
from typing import Any

import orjson

from durable.core.failure import Failure, failure_of
from durable.core.payload import Converter
from durable.core.signature import CallSignature
from durable.errors import PayloadError
from durable.primitives.activity import Activity
from durable.primitives.attempt import ActivityInfo, current_attempt

MAIN_HERE = "__durable_main__"
"""The name under which the worker's main module is run here, so that ``__name__ == "__main__"`` is false."""

_CHUNK_BYTES = 65_536
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def function_at(module: Any, qualname: str) -> Any:
    """What ``module`` holds under this name; of an activity, its function. Raises ``AttributeError``."""
    found = module
    for name in qualname.split("."):
        found = getattr(found, name)
    return found.definition.fn if isinstance(found, Activity) else found


def is_loading_main() -> bool:
    """Whether a child is just running the main module to find a function in it."""
    module = sys.modules.get(MAIN_HERE)
    return module is not None and sys.modules.get("__main__") is not module


def main() -> None:
    """Serve until the worker closes the pipe, or dies."""
    pipes = _Pipes()
    setup = json.loads(next(pipes.requests))
    faulthandler.enable()  # the worker can only say "signal 11"; this says where
    sys.argv[:] = setup["argv"]
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=pipes.leave)
    threading.Thread(target=pipes.listen, name="durable-requests", daemon=True).start()
    child = _Child(pipes, setup)
    while (call := pipes.calls.get()) is not None:
        child.run(call)


class _Pipes:
    """The two ends that belong to us.

    ``calls`` ends with None; ``cancelled`` is the number of the call that was cancelled last.
    """

    def __init__(self) -> None:
        self._fds = _taken_over()
        self.requests = _lines(self._fds[0])
        self.calls: SimpleQueue[dict[str, Any] | None] = SimpleQueue()
        self.tokens: SimpleQueue[str] = SimpleQueue()
        self.cancelled = 0
        self._number = 0
        self._busy = False
        self._writing = threading.Lock()

    def listen(self) -> None:
        """Take requests until the input ends."""
        for line in self.requests:
            request = orjson.loads(line)
            if request["kind"] == "call":
                self._begin(request)
            elif request["number"] == self._number:
                self._interfere(request)
        if self._busy:
            _end()
        self.calls.put(None)

    def _begin(self, request: dict[str, Any]) -> None:
        self._number = request["number"]
        self.tokens = SimpleQueue()
        self._busy = True
        self.calls.put(request)

    def _interfere(self, request: dict[str, Any]) -> None:
        if request["kind"] == "cancel":
            self.cancelled = self._number
        self.tokens.put(request.get("token", ""))  # also wakes a call that waits for one in vain

    def tell(self, kind: str, number: int, **more: Any) -> None:
        """Write one message."""
        line = orjson.dumps({"kind": kind, "number": number, **more}) + b"\n"
        with self._writing:
            rest = memoryview(line)
            while rest:
                try:
                    rest = rest[os.write(self._fds[1], rest) :]
                except OSError:
                    _end()

    def settle(self, kind: str, number: int, **more: Any) -> None:
        """Write the last message of a call."""
        self._busy = False  # before writing: the next request may be here before `tell` returns
        self.tell(kind, number, **more)

    def leave(self) -> None:
        """After a fork, in the new process: it is none of ours.

        With our pipes it would hide from the worker that we died; with our handlers it could not be terminated.
        """
        for fd in self._fds:
            with suppress(OSError):
                os.close(fd)
        current_attempt.set(None)
        for number in _SIGNALS:
            if getattr(signal.getsignal(number), "__name__", "") == "_left_to_the_worker":
                default = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
                signal.signal(number, default)


def _taken_over() -> tuple[int, int]:
    """The pipes, under numbers that subprocesses do not inherit; 0 and 1 are free for everybody's use."""
    requests, replies = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    try:
        os.dup2(2, 1)
    except OSError:  # the worker has no standard error
        os.dup2(nothing, 1)
    os.close(nothing)
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # it was opened on a pipe, and would keep lines back
    return requests, replies


def _lines(fd: int) -> Iterator[bytes]:
    """The lines that come in; not a buffered file, whose lock a thread would hold across forks and exits."""
    begun: list[bytes] = []
    while chunk := os.read(fd, _CHUNK_BYTES):
        *ends, rest = chunk.split(b"\n")
        for end in ends:
            yield b"".join((*begun, end))
            begun.clear()
        begun.append(rest)


def _end() -> None:
    """The worker is gone, and nobody wants what is being worked on."""
    os._exit(1)


class _Child:
    """Runs one call after the other."""

    def __init__(self, pipes: _Pipes, setup: dict[str, Any]) -> None:
        self._pipes = pipes
        self._main = setup["main"]
        self._converter = Converter(
            max_payload_bytes=setup["max_payload_bytes"], max_nesting=setup["max_nesting"]
        )
        self._found: dict[tuple[str, str], tuple[Callable[..., Any], CallSignature]] = {}

    def run(self, call: dict[str, Any]) -> None:
        """Answer one ``call``, whatever the function does."""
        number = call["number"]
        try:
            value = self._value(call)
            kind, reply = ("parked", {}) if value is None else ("result", {"value": value})
        except _Refused as refused:
            kind, reply = "refused", {"failure": _told(refused.error)}
        except BaseException as error:  # SystemExit too: it is what the function raised, not our end
            kind, reply = "failure", {"failure": _told(error)}
        self._pipes.settle(kind, number, **reply)

    def _value(self, call: dict[str, Any]) -> str | None:
        """The encoded value; None if the activity is to be completed from elsewhere."""
        fn, signature = self._function(call["module"], call["qualname"])
        attempt = _Attempt(self._pipes, self._converter, call)
        try:
            args, kwargs = self._converter.decode_args(call["args"], signature, call["what"])
        except PayloadError as error:
            raise _Refused(error) from None
        self._pipes.tell("begun", call["number"])
        value = contextvars.copy_context().run(_called, attempt, fn, args, kwargs)
        if attempt.parked:
            return None
        try:
            return self._converter.encode(value, signature.result, f"result of {call['what']}")
        except PayloadError as error:
            raise _Refused(error) from None

    def _function(self, module: str, qualname: str) -> tuple[Callable[..., Any], CallSignature]:
        found = self._found.get((module, qualname))
        if found is None:
            try:
                fn = function_at(self._module(module), qualname)
            except Exception as error:
                raise ImportError(
                    f"the process of an activity cannot load {module}.{qualname}: {type(error).__name__}: {error}"
                ) from error
            found = self._found[module, qualname] = fn, CallSignature(fn)
        return found

    def _module(self, name: str) -> ModuleType:
        if name != "__main__":
            return importlib.import_module(name)
        return sys.modules.get(MAIN_HERE) or _run_main(self._main)


class _Refused(Exception):
    """Arguments or a result that do not fit: trying again would not help."""

    def __init__(self, error: PayloadError) -> None:
        self.error = error


def _called(attempt: _Attempt, fn: Callable[..., Any], args: list[Any], kwargs: dict[str, Any]) -> Any:
    current_attempt.set(attempt)
    return fn(*args, **kwargs)


def _run_main(main: dict[str, str]) -> ModuleType:
    """The worker's main module, run as an import would: under another name than ``__main__``."""
    if "module" in main:
        names = runpy.run_module(main["module"], run_name=MAIN_HERE, alter_sys=True)
    else:
        names = runpy.run_path(main["path"], run_name=MAIN_HERE)
    module = ModuleType(MAIN_HERE)
    module.__dict__.update(names)
    sys.modules["__main__"] = sys.modules[MAIN_HERE] = module
    return module


def _told(error: BaseException) -> str:
    return _as_in_worker(failure_of(error)).to_text()


def _as_in_worker(failure: Failure) -> Failure:
    """Classes of the main module under the name that they have in the worker."""
    return replace(
        failure,
        type=_name_in_worker(failure.type),
        bases=tuple(map(_name_in_worker, failure.bases)),
        cause=failure.cause and _as_in_worker(failure.cause),
        parts=tuple(map(_as_in_worker, failure.parts)),
    )


def _name_in_worker(name: str) -> str:
    inside = name.removeprefix(f"{MAIN_HERE}.")
    return name if inside == name else f"__main__.{inside}"


class _Attempt:
    """What `durable.heartbeat` and its like reach here."""

    def __init__(self, pipes: _Pipes, converter: Converter, call: dict[str, Any]) -> None:
        self._pipes = pipes
        self._converter = converter
        self._number: int = call["number"]
        self._what: str = call["what"]
        self._token = ""
        self.info: ActivityInfo = converter.decode(call["info"], ActivityInfo, "information on the attempt")

    @property
    def parked(self) -> bool:
        return bool(self._token)

    def heartbeat(self, details: Any) -> None:
        self._check()
        text = self._converter.encode(details, Any, "heartbeat details")
        self._pipes.tell("heartbeat", self._number, details=text)

    def complete_later(self) -> str:
        if not self._token:
            self._check()
            self._pipes.tell("later", self._number)
            self._token = self._pipes.tokens.get()
            self._check()
        return self._token

    def transaction(self) -> AbstractAsyncContextManager[Any]:
        raise RuntimeError(f"durable.transaction() does not work in a process of its own: {self._what}")

    def _check(self) -> None:
        if self._pipes.cancelled == self._number:
            raise asyncio.CancelledError(f"{self._what} was cancelled")
