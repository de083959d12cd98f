"""What workflow code gets when it reaches for clock, randomness and the outside world directly.

While a step of a run is running in a thread, and in that thread only,

- clocks, randomness and UUIDs are the run's own: ``time.time``, ``monotonic``, ``perf_counter`` and the like,
  ``datetime.now``, ``utcnow``, ``today`` and ``date.today``, the functions of ``random``, ``random.Random()`` without a
  seed, ``os.urandom``, ``os.getrandom``, ``secrets``, ``uuid.uuid1`` and ``uuid.uuid4``;
- local time is UTC: ``time.localtime()``, naive datetimes, ``astimezone()``;
- files, sockets, subprocesses, threads and ``input`` raise `ForbiddenInWorkflow` (an audit hook), and so do
  ``time.sleep`` and waiting for another thread or process. Imports, reading source for a traceback, time zone data, and
  what ``logging`` does are let through.

Everywhere else every function is the real one, at the price of one call and one look at a dict (20 to 100 ns). Names
that were bound earlier (``from time import time``) are bound anew when the guards are installed, which the first worker
does.

This is no sandbox, and some things escape it: design note 001 (``docs/design/001-guards.md``) lists them. The
environment variable ``DURABLE_GUARDS=off`` leaves everything as it is.
"""

from __future__ import annotations

import calendar
import functools
import logging
import os
import random
import select
import signal
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from threading import get_ident
from types import BuiltinFunctionType, FrameType
from typing import Any, NoReturn, Protocol

from durable.core import guarded_datetime, refused_asyncio
from durable.core.rebinding import rebind
from durable.errors import ForbiddenInWorkflow


class RunValues(Protocol):
    """What a guard needs of the run that is stepping."""

    now_us: int

    def time(self) -> float: ...

    def random(self) -> random.Random: ...


_log = logging.getLogger("durable")

running: dict[int, RunValues] = {}
"""By thread: the run whose step is running there. The loop keeps it; empty means that every guard stands aside."""

enabled = os.environ.get("DURABLE_GUARDS", "on").lower() not in ("off", "0", "false", "no")
"""The switch: set to False, steps that begin afterwards are not guarded, and nothing is installed."""


@contextmanager
def lifted() -> Iterator[None]:
    """Without guards, for what may look outside inside of a step: the engine itself, and side effects."""
    run = running.pop(get_ident(), None)
    try:
        yield
    finally:
        if run is not None:
            running[get_ident()] = run


def _run_of(frame: FrameType) -> RunValues | None:
    """The run whose step ``frame`` belongs to, unless the code there needs the real values whoever calls it."""
    run = running.get(get_ident())
    if run is not None and frame.f_globals.get("__name__") in _KEEP_REAL:
        return None
    return run


# A log record has the time at which it was written; a host's loop that the engine calls has the host's clock.
_KEEP_REAL = frozenset({"logging", "asyncio.base_events"})


# --- clock and randomness -------------------------------------------------------------------------------------------


def _clock(real: Callable[[], Any], own: Callable[[RunValues], Any]) -> Callable[[], Any]:
    @functools.wraps(real)
    def clock() -> Any:
        if running and (run := _run_of(sys._getframe(1))) is not None:
            return own(run)
        return real()

    return clock


def _function(real: Callable[..., Any], own: Callable[..., Any]) -> Callable[..., Any]:
    """Like `_clock` for functions with arguments; ``own`` gets the run before them."""

    @functools.wraps(real)
    def function(*args: Any, **kwargs: Any) -> Any:
        if running and (run := _run_of(sys._getframe(1))) is not None:
            return own(run, *args, **kwargs)
        return real(*args, **kwargs)

    return function


def _seconds(run: RunValues) -> float:
    return run.now_us / 1_000_000


def _elapsed_ns(run: RunValues) -> int:
    return round(run.time() * 1_000_000) * 1_000


_CLOCKS: dict[str, Callable[[RunValues], Any]] = {
    "time": _seconds,
    "time_ns": lambda run: run.now_us * 1_000,
    "monotonic": lambda run: run.time(),
    "monotonic_ns": _elapsed_ns,
    "perf_counter": lambda run: run.time(),
    "perf_counter_ns": _elapsed_ns,
    "process_time": lambda run: run.time(),
    "process_time_ns": _elapsed_ns,
    "thread_time": lambda run: run.time(),
    "thread_time_ns": _elapsed_ns,
}

_real_gmtime, _real_asctime, _real_strftime = time.gmtime, time.asctime, time.strftime


def _utc(run: RunValues, seconds: float | None = None) -> time.struct_time:
    return _real_gmtime(_seconds(run) if seconds is None else seconds)


# Local time is UTC in a run: the next worker that replays it may have another zone.
_CALENDAR: dict[str, Callable[..., Any]] = {
    "gmtime": _utc,
    "localtime": _utc,
    "ctime": lambda run, seconds=None: _real_asctime(_utc(run, seconds)),
    "asctime": lambda run, t=None: _real_asctime(_utc(run) if t is None else t),
    "mktime": lambda run, t: float(calendar.timegm(t)),
    "strftime": lambda run, form, t=None: _real_strftime(form, _utc(run) if t is None else t),
    "clock_gettime": lambda run, clock: _seconds(run) if clock == 0 else run.time(),
    "clock_gettime_ns": lambda run, clock: run.now_us * 1_000 if clock == 0 else _elapsed_ns(run),
}

# The functions of the module `random` are bound methods of one hidden instance.
_RANDOM_NAMES = """
    betavariate binomialvariate choice choices expovariate gammavariate gauss getrandbits getstate lognormvariate
    normalvariate paretovariate randbytes randint random randrange sample setstate shuffle triangular uniform
    vonmisesvariate weibullvariate
"""


def _own_random(name: str) -> Callable[..., Any]:
    def own(run: RunValues, *args: Any, **kwargs: Any) -> Any:
        return getattr(run.random(), name)(*args, **kwargs)

    return own


def _own_bytes(run: RunValues, size: int, flags: int = 0) -> bytes:
    return run.random().randbytes(size)


def _own_seed(run: RunValues, a: Any = None, version: int = 2) -> None:
    if a is None:
        raise ForbiddenInWorkflow(
            "random.seed() takes its seed from the system: in a workflow give it one, or leave it out; the run's "
            "stream has its own"
        )
    run.random().seed(a, version)


_real_reseed = random.Random.seed


def _reseed(self: random.Random, a: Any = None, version: int = 2) -> None:
    # `random.Random()` in a run: seeded from the run's stream instead of the system's.
    if a is None and running and (run := running.get(get_ident())) is not None:
        a = run.random().getrandbits(128)
    _real_reseed(self, a, version)


def _own_uuid1(run: RunValues, node: int | None = None, clock_seq: int | None = None) -> uuid.UUID:
    """Version 1 from the run's time; node and sequence are random unless given: a worker's address is its own."""
    stream = run.random()
    stamp = run.now_us * 10 + 0x01B21DD213814000
    sequence = stream.getrandbits(14) if clock_seq is None else clock_seq
    return uuid.UUID(
        fields=(
            stamp & 0xFFFFFFFF,
            (stamp >> 32) & 0xFFFF,
            (stamp >> 48) & 0x0FFF,
            (sequence >> 8) & 0x3F,
            sequence & 0xFF,
            (stream.getrandbits(48) | 1 << 40) if node is None else node,
        ),
        version=1,
    )


def _no_sleep(run: RunValues, seconds: float) -> NoReturn:
    raise ForbiddenInWorkflow(
        f"time.sleep({seconds!r}) would block every run of this worker: use `await asyncio.sleep(...)`, a durable timer"
    )


# --- the audit hook -------------------------------------------------------------------------------------------------

_FORBIDDEN_EVENTS = """
    open os.listdir os.scandir os.remove os.rename os.mkdir os.rmdir os.link os.symlink os.truncate os.chmod os.chown
    os.utime os.walk os.fwalk glob.glob tempfile.mkstemp tempfile.mkdtemp shutil.copyfile shutil.copytree shutil.move
    shutil.rmtree shutil.make_archive shutil.unpack_archive mmap.__new__ sqlite3.connect
    subprocess.Popen os.system os.exec os.fork os.forkpty os.posix_spawn os.spawn os.startfile os.kill os.killpg
    pty.spawn signal.pthread_kill builtins.input urllib.Request http.client.connect ftplib.connect smtplib.connect
    webbrowser.open _thread.start_new_thread _thread.start_joinable_thread time.sleep
"""
_FORBIDDEN = frozenset(_FORBIDDEN_EVENTS.split())

_WAITING = {
    os: "wait waitpid wait3 wait4 waitid",
    select: "select poll",  # `epoll` is a class, which must stay one
    signal: "pause sigwait sigwaitinfo sigtimedwait",
}

# Whoever of these is between workflow code and the event acts for the interpreter, not for the workflow.
_LET_THROUGH = frozenset(
    {
        "_frozen_importlib",
        "_frozen_importlib_external",
        "importlib._bootstrap",
        "importlib._bootstrap_external",
        "importlib.metadata",
        "importlib.resources",
        "zipimport",
        "linecache",
        "tokenize",
        "traceback",
        "zoneinfo._common",
        "zoneinfo._tzpath",
        "logging",
        "logging.handlers",
        "warnings",
        "bdb",
        "pdb",
    }
)


def _audit(event: str, args: tuple[Any, ...]) -> None:
    if not running or get_ident() not in running:
        return
    if (event in _FORBIDDEN or event.startswith("socket.")) and not _let_through(
        sys._getframe(1), event, args
    ):
        raise ForbiddenInWorkflow(_sentence(event, args))


def _let_through(frame: FrameType | None, event: str, args: tuple[Any, ...]) -> bool:
    while frame is not None:
        name = frame.f_globals.get("__name__")
        if name in _LET_THROUGH:
            return True
        if name == "durable.core.loop":
            break  # what called the step may itself be an import: `python -m` of a program that runs a worker
        frame = frame.f_back
    return event == "open" and _is_zone_file(args[0])


def _is_zone_file(path: object) -> bool:
    """`zoneinfo` opens its files from C, without a frame of its own."""
    zoneinfo = sys.modules.get("zoneinfo")
    return zoneinfo is not None and isinstance(path, str) and path.startswith(tuple(zoneinfo.TZPATH) or "\0")


def _sentence(event: str, args: tuple[Any, ...]) -> str:
    if event == "time.sleep":
        return (
            "time.sleep would block every run of this worker: use `await asyncio.sleep(...)`, a durable timer"
        )
    if event.startswith("_thread."):
        return (
            "a workflow cannot start threads, they would outrun its history: move this work into an activity"
        )
    what = (
        f"{event}({args[0]!r})"
        if event in ("open", "sqlite3.connect", "subprocess.Popen", "os.system")
        else event
    )
    return f"{what} is not available in a workflow, which replays: move this work into an activity"


def _never_blocking(real: Callable[..., Any], what: str) -> Callable[..., Any]:
    """Waiting for another thread has no audit event, and no interrupt ends it: the worker would hang for ever."""

    @functools.wraps(real)
    def wait(*args: Any, **kwargs: Any) -> Any:
        if running and get_ident() in running and not _let_through(sys._getframe(1), what, ()):
            raise ForbiddenInWorkflow(
                f"{what} would block every run of this worker: use what asyncio has for it (asyncio.Event, "
                "asyncio.Queue, ...), or move this work into an activity"
            )
        return real(*args, **kwargs)

    return wait


_real_thread_start = threading.Thread.start


def _start_thread(self: threading.Thread) -> None:
    # Starting a thread has an audit event from Python 3.12 on.
    _audit("_thread.start_new_thread", ())
    _real_thread_start(self)


# --- installing -----------------------------------------------------------------------------------------------------

_installed = False
_guards: dict[int, Any] = {}
"""By the id of the original, which its guard keeps alive: the guard."""


def install() -> None:
    """Put the guards in place, once for the process. The first worker does it, or the first run."""
    global _installed  # noqa: PLW0603 - the patches are the process's, too
    if _installed or not enabled:
        return
    _installed = True
    for name, clock in _CLOCKS.items():
        if hasattr(time, name):
            _replace(time, name, _clock(getattr(time, name), clock))
    for name, own in _CALENDAR.items():
        if hasattr(time, name):
            _replace(time, name, _function(getattr(time, name), own))
    _replace(time, "sleep", _function(time.sleep, _no_sleep))
    if sys.version_info < (3, 12):
        threading.Thread.start = _start_thread  # type: ignore[method-assign]
    _install_waiting()
    _install_randomness()
    if escaped := guarded_datetime.install(running, _run_of):
        _log.warning("this Python lets workflow code see the real %s: use durable.now()", ", ".join(escaped))
    refused_asyncio.install(lambda: bool(running) and get_ident() in running, _replace)
    rebind(_guard_of)
    sys.addaudithook(_audit)


def _install_waiting() -> None:
    # `Event`, `Semaphore`, `Barrier`, `queue.Queue` and futures of `concurrent.futures` all wait in `Condition.wait`.
    for cls, name in ((threading.Condition, "wait"), (threading.Thread, "join")):
        setattr(cls, name, _never_blocking(getattr(cls, name), f"threading.{cls.__name__}.{name}()"))
    for module, names in _WAITING.items():
        for name in names.split():
            if hasattr(module, name):
                _replace(module, name, _never_blocking(getattr(module, name), f"{module.__name__}.{name}()"))


def _replace(module: Any, name: str, guard: Any) -> None:
    _guards[id(getattr(module, name))] = guard
    setattr(module, name, guard)


def _guard_of(value: Any) -> Any:
    guard = _guards.get(id(value))
    if (
        guard is None
        and type(value) is BuiltinFunctionType
        and value.__name__ in guarded_datetime.CLASS_METHODS
    ):
        # `now = datetime.now` makes an object of its own each time.
        owner = value.__self__
        if isinstance(owner, type) and issubclass(owner, date):
            return getattr(owner, value.__name__)
    return guard


def _install_randomness() -> None:
    for name in _RANDOM_NAMES.split():
        if hasattr(random, name):
            _replace(random, name, _function(getattr(random, name), _own_random(name)))
    _replace(random, "seed", _function(random.seed, _own_seed))
    random.Random.seed = _reseed  # type: ignore[method-assign]
    _replace(os, "urandom", _function(os.urandom, _own_random("randbytes")))
    if hasattr(os, "getrandom"):
        _replace(os, "getrandom", _function(os.getrandom, _own_bytes))
    # `SystemRandom`, and `secrets` with it, knows the function by this name; `uuid4` looks it up in `os`.
    random._urandom = os.urandom  # type: ignore[attr-defined]
    _replace(uuid, "uuid1", _function(uuid.uuid1, _own_uuid1))
