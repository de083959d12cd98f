"""Activities for `test_processes`, in a module that a child process can import."""

from __future__ import annotations

import ctypes
import os
import signal
import threading
from dataclasses import dataclass
from typing import Any

import durable.primitives.attempt as reach
from durable.errors import NonRetryable
from durable.primitives.activity import activity


class Broken(Exception):
    def __init__(self, part: str, count: int) -> None:
        super().__init__(f"{part} is broken {count} times")
        self.part = part
        self.count = count


@dataclass(frozen=True)
class Box:
    size: int
    label: str


@activity(executor="process")
def widen(box: Box, *, by: int) -> Box:
    return Box(size=box.size + by, label=box.label.upper())


@activity(executor="process")
def pid() -> int:
    return os.getpid()


@activity(executor="process")
def fail(part: str) -> None:
    try:
        raise KeyError("inner")
    except KeyError as error:
        raise Broken(part, 3) from error


@activity(executor="process")
def refuse() -> None:
    raise NonRetryable("no")


@activity(executor="process")
def leave(code: int) -> None:
    raise SystemExit(code)


@activity(executor="process")
def wrong_result() -> int:
    return "seven"  # type: ignore[return-value]


@activity(executor="process")
def beat(count: int) -> Any:
    for number in range(count):
        reach.heartbeat({"done": number})
    return reach.activity_info().last_heartbeat


@activity(executor="process")
def tell_info() -> dict[str, Any]:
    info = reach.activity_info()
    return {
        "attempt": info.attempt,
        "deadline": str(info.deadline),
        "client": info.client,
        "last": info.last_heartbeat,
    }


@activity(executor="process")
def until_cancelled() -> None:
    """Says its pid, and then heartbeats for ever."""
    reach.heartbeat(os.getpid())
    while True:
        reach.heartbeat("more")


@activity(executor="process")
def stubborn() -> None:
    """Says its pid, and hears nothing."""
    reach.heartbeat(os.getpid())
    threading.Event().wait()


@activity(executor="process")
def later() -> str:
    return f"ignored {reach.complete_later()} {reach.complete_later()}"


@activity(executor="process")
def exit_hard(code: int) -> None:
    os._exit(code)


@activity(executor="process")
def segfault() -> None:
    import faulthandler

    faulthandler.disable()  # or its report would stand in the test's output
    ctypes.string_at(0)


@activity(executor="process")
def die_with_a_forked_child(fifo: str) -> None:
    """Dies, and leaves a process behind which a fork made, and which ends when it is terminated."""
    made = os.fork()
    if made == 0:
        with open(fifo, "w") as told:  # noqa: PTH123
            told.write(str(os.getpid()))
        while True:
            signal.pause()
    os.kill(os.getpid(), signal.SIGKILL)


@activity(executor="process")
def chatter(text: str) -> str:
    print(text, flush=True)  # noqa: T201
    os.write(1, f"{text} raw\n".encode())
    return input_or_nothing()


def input_or_nothing() -> str:
    try:
        return input()
    except EOFError:
        return "nothing to read"


@activity(executor="process")
def size(text: str) -> str:
    return f"{len(text)}{text}"


@activity
def in_thread() -> None: ...


class Shop:
    @staticmethod
    @activity(executor="process")
    def price(amount: int) -> int:
        return amount * 2

    @activity(executor="process")
    def total(self, amount: int) -> int:
        return amount


def _plain(number: int) -> int:
    return number + 1


renamed = activity(name="renamed", executor="process")(_plain)
shadowed = activity(name="shadowed", executor="process")(input_or_nothing)


def at_home() -> int:
    return 1


home = activity(name="home", executor="process")(at_home)
