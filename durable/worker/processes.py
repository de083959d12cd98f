"""Activities in processes of their own: the worker's side of ``executor="process"``.

A worker has at most as many child processes as there are processors. They start when they are first needed, are used
again, and end with the worker: theirs is the end of a pipe, so they notice even if it was killed. No
`multiprocessing`, whose pickles would carry code, and whose pool breaks as a whole when one process dies.

A child that dies fails the attempt that it was running and nothing else. A call that is cancelled is let go at once;
its child is asked to stop (the next heartbeat raises there), and killed if it has not ended the call in a second. What
goes through the pipe is told in `durable.worker.process_child`.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import orjson

from durable.core.definition import ActivityDefinition
from durable.core.failure import Failure, rebuild
from durable.core.payload import Converter, PlainCodec
from durable.errors import PayloadError, WorkerLost
from durable.primitives.attempt import ActivityInfo
from durable.worker.process_child import function_at, is_loading_main

GRACE_SECONDS = 1.0
_LINE_BYTES = 2**30  # a guard against a broken child only: what may be stored is the converter's matter
_ANY_SIZE = 2**40
_PLAIN = Converter(max_payload_bytes=_ANY_SIZE)

# Not `-m`: with that, `durable` would have to be found before the worker's `sys.path` is known. Signals for the whole
# process group (Ctrl-C) are the worker's to act upon; a handler that does nothing is, unlike SIG_IGN, not inherited by
# the programs that an activity starts.
_BOOT = """
import signal, sys
def _left_to_the_worker(number, frame): pass
signal.signal(signal.SIGINT, _left_to_the_worker)
signal.signal(signal.SIGTERM, _left_to_the_worker)
sys.path[:] = sys.argv[1:]
from durable.worker.process_child import main
main()
"""


class ResultRefused(Exception):
    """Arguments or result do not fit their annotations; ``error`` says how. Another attempt would not help."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


class _Item(Protocol):
    @property
    def payload(self) -> str: ...


class ProcessAttempt(Protocol):
    """What is needed of the running attempt: the worker's `RunningAttempt`."""

    @property
    def item(self) -> _Item: ...
    @property
    def label(self) -> str: ...
    @property
    def info(self) -> ActivityInfo: ...
    def begin(self) -> None: ...
    def heartbeat(self, details: Any) -> None: ...
    def complete_later(self) -> Any: ...


def check(definition: ActivityDefinition) -> None:
    """Raise ``ValueError`` if a child process could not find the activity's function by its name."""
    if definition.executor != "process":
        return
    if getattr(sys, "frozen", False):
        raise ValueError(
            f"activity {definition.name!r} has executor='process', but this program is frozen into an executable,"
            " which cannot start a Python of its own: drop executor='process'"
        )
    fn = definition.fn
    reason = _not_findable(fn)
    if reason is not None:
        name = getattr(fn, "__qualname__", repr(fn))
        raise ValueError(
            f"activity {definition.name!r} has executor='process', but a process cannot find its function {name!r}:"
            f" {reason}. Define it with `def` at the top of a module, or drop executor='process'"
        )


def _not_findable(fn: Any) -> str | None:
    if inspect.ismethod(fn):
        return "it is bound to an object, which exists in this process only"
    if "<lambda>" in fn.__qualname__:
        return "it is a lambda"
    if "<locals>" in fn.__qualname__:
        return "it is defined inside another function"
    if fn.__module__ == "__main__" and _main() is None:
        return "it was typed in, and no file holds it"
    try:
        found = function_at(sys.modules[fn.__module__], fn.__qualname__)
    except (AttributeError, KeyError):
        found = None
    return None if found is fn else f"{fn.__module__}.{fn.__qualname__} is something else, or nothing"


def _main() -> dict[str, str] | None:
    """How another process can run the main module: by its name if it was run with ``-m``, or by its file."""
    main = sys.modules["__main__"]
    spec, path = getattr(main, "__spec__", None), getattr(main, "__file__", None)
    if spec is not None and spec.name != "__main__":
        return {"module": spec.name}
    return {"path": path} if path is not None and Path(path).is_file() else None


class Processes:
    """The child processes of one worker. ``most``: how many at a time (default: one for each processor)."""

    def __init__(
        self, converter: Converter, known: Mapping[str, type[BaseException]], *, most: int | None = None
    ) -> None:
        if is_loading_main():
            raise RuntimeError(
                "a process looks for an activity in the main module, which would start a worker while it is imported:"
                " put what starts the worker under `if __name__ == '__main__':`"
            )
        self._converter = converter
        self._known = known
        self._most = most or os.cpu_count() or 1
        self._idle: list[_Child] = []
        self._waiting: deque[_Call] = deque()
        self._running: set[_Call] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._busy = 0
        self._closed = False

    async def run(self, attempt: ProcessAttempt, definition: ActivityDefinition) -> Any:
        """Call the activity's function in a child process and give its value.

        Raises what the function raised, `WorkerLost` if its process died, `ResultRefused`. When it is cancelled, it
        does not wait for the process.
        """
        if self._closed:
            raise RuntimeError(f"activity {attempt.label}: its worker is closed")
        call = _Call(attempt, definition, self._converter, self._known)
        if self._busy < self._most:
            self._begin(call)
        else:
            self._waiting.append(call)
        return await call.done

    async def close(self) -> None:
        """End all processes. Calls that still run are cancelled. Takes little more than the grace time."""
        self._closed = True
        for call in (*self._waiting, *self._running):
            call.done.cancel()
        self._waiting.clear()
        idle, self._idle = self._idle, []
        await asyncio.gather(*(child.end() for child in idle), *self._tasks)

    def _begin(self, call: _Call) -> None:
        child = self._idle.pop() if self._idle else None
        self._busy += 1
        task = asyncio.get_running_loop().create_task(self._work(call, child), name="durable process")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _work(self, call: _Call | None, child: _Child | None) -> None:
        """One call after the other, as long as some are waiting."""
        while call is not None:
            self._running.add(call)
            child = await self._served(call, child)
            self._running.discard(call)
            call = self._waiting.popleft() if self._waiting else None
        # Nothing may be awaited between the last look at those waiting and this, or one could wait for ever.
        self._busy -= 1
        if child is not None and not self._closed:
            self._idle.append(child)
        elif child is not None:
            await child.end()

    async def _served(self, call: _Call, child: _Child | None) -> _Child | None:
        """Do one call; gives the process if it can be used again."""
        if call.done.done():
            return child
        used = child is not None
        call.attempt.begin()  # now, and not while it waited for a process
        try:
            child = child or await _Child.start(self._converter)
            await child.serve(call)
        except Exception as error:
            if child is not None:
                await child.end()
            call.fail(error)
            return None
        if child.alive:
            return child
        if used and not call.begun:
            return await self._served(call, None)  # it died before it was given the call
        call.fail(WorkerLost(f"the process of activity {call.attempt.label} died: {child.death}"))
        return None


class _Call:
    """One call of one function. ``done`` gets the value or the error; ``begun``: the function was called."""

    def __init__(
        self,
        attempt: ProcessAttempt,
        definition: ActivityDefinition,
        converter: Converter,
        known: Mapping[str, type[BaseException]],
    ) -> None:
        self.attempt = attempt
        self.begun = False
        self.done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._definition = definition
        self._converter = converter
        self._known = known

    def request(self) -> dict[str, Any]:
        fn = self._definition.fn
        info = replace(self.attempt.info, client=None)
        return {
            "kind": "call",
            "module": fn.__module__,
            "qualname": fn.__qualname__,
            "what": f"activity {self._definition.name!r}",
            "args": self._converter.codec.decode(self.attempt.item.payload),
            "info": _PLAIN.encode(info, ActivityInfo, "information on the attempt"),
        }

    def heartbeat(self, text: str) -> None:
        """Pass a heartbeat on, unless nobody listens any more."""
        if self.done.done():
            return
        # CancelledError: the attempt is over, and `done` is about to be cancelled.
        with suppress(asyncio.CancelledError):
            self.attempt.heartbeat(_PLAIN.decode(text, Any, "heartbeat details"))

    async def token(self) -> str | None:
        """The token for completing later; None if the attempt is over."""
        if self.done.done():
            return None
        try:
            token: str = await self.attempt.complete_later()
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            self.done.cancel()
            return None
        return token

    def settle(self, message: dict[str, Any]) -> None:
        """Take the child's last word."""
        match message["kind"]:
            case "result":
                self._succeed(message["value"])
            case "parked":
                self._give(None)
            case kind:
                error = rebuild(Failure.from_text(message["failure"]), self._known)
                self.fail(ResultRefused(error) if kind == "refused" else error)

    def _succeed(self, text: str) -> None:
        try:
            what = f"result of activity {self._definition.name!r}"
            value = _PLAIN.decode(text, self._definition.signature.result, what)
        except PayloadError as error:
            self.fail(ResultRefused(error))
        else:
            self._give(value)

    def _give(self, value: Any) -> None:
        if not self.done.done():
            self.done.set_result(value)

    def fail(self, error: Exception) -> None:
        if not self.done.done():
            self.done.set_exception(error)


class _Child:
    """One process and the pipes to it; does one call at a time."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._process = process
        self._stdin = process.stdin
        self._stdout = process.stdout
        self._number = 0
        self._call: _Call | None = None
        self._killer: asyncio.TimerHandle | None = None

    @staticmethod
    async def start(converter: Converter) -> _Child:
        """Start a process. Raises `WorkerLost` if the system does not let us."""
        try:
            process = await asyncio.create_subprocess_exec(
                *_command(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, limit=_LINE_BYTES
            )
        except OSError as error:
            raise WorkerLost(f"no process could be started for an activity: {error}") from error
        child = _Child(process)
        child._stdin.write(json.dumps(_setup(converter)).encode() + b"\n")
        return child

    @property
    def alive(self) -> bool:
        return self._process.returncode is None

    @property
    def death(self) -> str:
        code = self._process.returncode
        if code is None or code >= 0:
            return f"exit code {code}"
        with suppress(ValueError):
            return f"signal {-code} ({signal.Signals(-code).name})"
        return f"signal {-code}"

    async def serve(self, call: _Call) -> None:
        """Do a call, to the end of the function or of the process. ``call`` may be given up meanwhile."""
        self._number += 1
        self._call = call
        self._send(call.request())
        call.done.add_done_callback(self._given_up)
        try:
            while (message := await self._receive()) is not None:
                if message["number"] == self._number and await self._taken(call, message):
                    return
            await self.end()
        except BaseException:
            self._kill()
            raise
        finally:
            self._call = None
            self._spare()

    async def _taken(self, call: _Call, message: dict[str, Any]) -> bool:
        """Act on a message; whether it was the last of the call."""
        match message["kind"]:
            case "begun":
                call.begun = True
            case "heartbeat":
                call.heartbeat(message["details"])
            case "later":
                if token := await call.token():
                    self._send({"kind": "token", "token": token})
            case _:
                call.settle(message)
                return True
        return False

    def _given_up(self, done: asyncio.Future[Any]) -> None:
        # Such a callback may come when the call is over, and another one has begun.
        if self._call is not None and self._call.done is done and done.cancelled():
            self._send({"kind": "cancel"})
            self._kill_after(GRACE_SECONDS)

    async def end(self) -> None:
        """Close the pipe, which ends the process, and wait for the end; kill it after the grace time."""
        self._kill_after(GRACE_SECONDS)
        self._stdin.close()
        await self._process.wait()
        self._spare()

    def _send(self, message: dict[str, Any]) -> None:
        # Not drained: the message is in memory anyway, and a process that died is noticed when it is read.
        self._stdin.write(orjson.dumps({**message, "number": self._number}) + b"\n")

    async def _receive(self) -> dict[str, Any] | None:
        line = await self._stdout.readline()
        if not line.endswith(b"\n"):
            return None
        message: dict[str, Any] = orjson.loads(line)
        return message

    def _kill_after(self, seconds: float) -> None:
        self._spare()
        self._killer = asyncio.get_running_loop().call_later(seconds, self._kill)

    def _spare(self) -> None:
        if self._killer is not None:
            self._killer.cancel()

    def _kill(self) -> None:
        with suppress(ProcessLookupError):
            self._process.kill()


def _command() -> list[str]:
    path = [entry for entry in sys.path if isinstance(entry, str)]
    return [sys.executable, "-P", *_flags(), "-c", _BOOT, *path]


def _flags() -> list[str]:
    """The interpreter's own options, as far as code can tell the difference."""
    flags = ["-" + "O" * sys.flags.optimize] if sys.flags.optimize else []
    flags += ["-E"] if sys.flags.ignore_environment else []
    for warning in sys.warnoptions:
        flags += ["-W", warning]
    for name, value in sys._xoptions.items():
        flags += ["-X", name if value is True else f"{name}={value}"]
    return flags


def _setup(converter: Converter) -> dict[str, Any]:
    # What a codec makes of a payload may be smaller, so only without one is the limit known before.
    plain = isinstance(converter.codec, PlainCodec)
    return {
        "argv": sys.argv,
        "main": _main(),
        "max_payload_bytes": converter.max_payload_bytes if plain else _ANY_SIZE,
        "max_nesting": converter.max_nesting,
    }
