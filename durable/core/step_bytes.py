"""How much a step asks for: what its commands take in a checkpoint, as events and as rows.

A run must come to the same end wherever it is replayed, so what is counted here follows from the history alone: the
input, and what the code asks for in answer to it. Other steps that share its checkpoint are not counted; a checkpoint
that would be too full is cut between steps instead. Failures are not counted either, since their traces differ from
host to host: there is room set aside for them.
"""

from __future__ import annotations

from collections.abc import Mapping

from durable.core import commands
from durable.core.commands import Command, Publish, decision_of
from durable.core.events import Event, RunStarted, encode_event
from durable.core.messages import answer_body, signal_body

MAX_STEP_BYTES = 7 * 2**20
"""What an input and the commands that answer it may take. A checkpoint holds 8 MiB: the rest is for a failure."""
MAX_LAST_STEP_BYTES = 8 * 2**20 - 128 * 1024
"""The same for a step that ends the run with a result; the rest is for what stands around."""
LEAST_ROOM_BYTES = 2**20
"""However large the input was, the code may ask for something: else it could not even say that it is too large."""

_SMALL = 64 * 1024
_MOST_FOR_ONE_CHARACTER = (
    16  # UTF-8 has up to four bytes, JSON within JSON six; each text is written up to three times
)
_MOST_FOR_THE_REST = 512
_TIME_US = 2**50

Asked = Command | Publish | str
"""A command, an event for the outbox, or the value of a variable."""


def room_beside(inputs_bytes: int) -> int:
    """What a step may ask for, given how much its input takes."""
    return max(LEAST_ROOM_BYTES, MAX_STEP_BYTES - inputs_bytes)


def input_bytes(event: Event, about: int) -> int:
    """About what an input of this weight takes in the checkpoint. The first event is written before it."""
    if isinstance(event, RunStarted):
        return 0
    return about if about * _MOST_FOR_ONE_CHARACTER < _SMALL else len(encode_event(event))


def most_bytes(asked: Asked) -> int:
    """An upper limit of `exact_bytes`, cheaply."""
    if type(asked) is commands.ScheduleActivity:
        characters = len(asked.args) + len(asked.options) + len(asked.name) + len(asked.queue)
    elif type(asked) is commands.CompleteRun:
        characters = len(asked.result)
    elif isinstance(asked, str):
        return 4 * len(asked)
    else:
        characters = sum(_characters(getattr(asked, name)) for name in asked.__dataclass_fields__)
    return _MOST_FOR_THE_REST + _MOST_FOR_ONE_CHARACTER * characters


def exact_bytes(asked: Asked, *, of_child: bool = False) -> int:
    """What it takes in a checkpoint, as the store counts it. The result of a child is a message to its parent, too."""
    match asked:
        case str():
            return _size(asked)
        case Publish(payload=payload):
            return _size(payload)
        case commands.FailRun() | commands.FinishUpdate(result=None):
            return 0
        case _:
            return len(encode_event(decision_of(asked, _TIME_US))) + _rows(asked, of_child)


def _rows(asked: Command, of_child: bool) -> int:
    match asked:
        case commands.ScheduleActivity(args=args, options=options):
            return _size(args) + _size(options)
        case commands.StartChild(args=args, headers=headers):
            return len(encode_event(_first_event(args, headers)))
        case commands.SendSignal(name=name, payload=payload):
            return _size(signal_body(name, payload))
        case commands.SendCancel(reason=reason):
            return _size(reason or "")
        case commands.FinishUpdate(result=result):
            return _size(answer_body(result, None))
        case commands.CompleteRun(result=result):
            return _size(result) + (_size(answer_body(result, None)) if of_child else 0)
        case commands.ContinueRun(args=args, headers=headers):
            return len(encode_event(_first_event(args, headers)))
        case _:
            return 0


def _first_event(args: str, headers: Mapping[str, str]) -> RunStarted:
    return RunStarted(time_us=_TIME_US, workflow="", args=args, queue="", headers=headers)


def _characters(value: object) -> int:
    if isinstance(value, str):
        return len(value)
    if isinstance(value, Mapping):
        return sum(len(name) + len(text) + 8 for name, text in value.items())
    if isinstance(value, tuple):
        return sum(_characters(one) + 8 for one in value)
    return 0


def _size(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode(errors="surrogatepass"))
