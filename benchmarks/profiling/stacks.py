"""py-spy's output: a line a stack, ``thread (1): MainThread;function (/file.py:12);... 42``."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from benchmarks.profiling.rooms import Frame

_FRAME = re.compile(r"^(.*) \((.*):(\d+)\)$")
_MAIN = "MainThread"
_IMPORTS = "<frozen importlib"
_GARBAGE = "settle_garbage"


@dataclass(frozen=True, slots=True)
class Seen:
    """A stack, outermost function first, and how often it was seen."""

    main_thread: bool
    stack: tuple[Frame, ...]
    times: int


def read(lines: Iterable[str], *, within: str) -> Iterator[Seen]:
    """Of the main thread only what is inside the function ``within``: the rest is the program's start.

    Of no thread what imports modules or collects garbage between rounds.
    """
    for line in lines:
        text, _, times = line.rstrip().rpartition(" ")
        thread, *frames = text.split(";")
        stack = tuple(frame for each in frames if (frame := _frame(each)) is not None)
        main_thread = thread.endswith(_MAIN)
        if any(frame.function == _GARBAGE or frame.file.startswith(_IMPORTS) for frame in stack):
            continue
        if not main_thread or any(frame.function == within for frame in stack):
            yield Seen(main_thread=main_thread, stack=stack, times=int(times))


def _frame(text: str) -> Frame | None:
    found = _FRAME.match(text)
    return None if found is None else Frame(function=found[1], file=found[2], line=int(found[3]))
