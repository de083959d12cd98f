"""Ids and tokens. Randomness comes from the operating system; ids of children follow from those of their parents."""

from __future__ import annotations

import hashlib
import os
import time

from durable.errors import PayloadError

_urandom = os.urandom  # kept: workflow code sees a guarded one
_POOL_BYTES = 4096
_time_ns = time.time_ns


MAX_ID_BYTES = 512


def check_id(text: object, what: str) -> str:
    """The text itself, if every store can keep it as an id or a name; ``what`` is named in the error.

    Raises ``TypeError`` for what is no text, `PayloadError` for one that is empty or over 512 bytes, NUL and lone
    surrogates.
    """
    if not isinstance(text, str):
        raise TypeError(f"{what} is a text, not {text!r:.100}")
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise PayloadError(f"{what} holds a lone surrogate: {text!a:.100}") from None
    if not text or size > MAX_ID_BYTES or "\0" in text:
        wrong = "is empty" if not text else "holds NUL" if "\0" in text else f"has {size} bytes"
        raise PayloadError(f"{what} {wrong} (allowed: 1 to {MAX_ID_BYTES} bytes without NUL): {text!a:.100}")
    return text


def new_run_id() -> str:
    """32 hexadecimal digits that sort by time of creation, so that rows of one hour lie together."""
    return f"{_time_ns() // 1_000_000:012x}{_pool.take()}{_pool.take()[:4]}"


class _Pool:
    """Random bytes, asked of the operating system many at a time: each time takes microseconds."""

    def __init__(self) -> None:
        self._tokens: list[str] = []

    def take(self) -> str:
        while True:
            try:
                return self._tokens.pop()
            except IndexError:  # ours, or (threads take from it, too) the last one was taken just now
                digits = _urandom(_POOL_BYTES).hex()
                self._tokens = [digits[at : at + 16] for at in range(0, len(digits), 16)]

    def forget(self) -> None:
        """In a process that was forked: its parent has the same ones."""
        self._tokens = []


_pool = _Pool()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.forget)


def new_token() -> str:
    """64 random bits: a head or an attempt that nobody else can have guessed or repeated."""
    return _pool.take()


def first_token(run_id: str) -> str:
    """The token of a run's first head, until somebody has worked on it: not drawn, so that a checkpoint that is
    computed again names the same child, and so that one can tell whether the run was worked on.
    """
    return run_id[-16:]


_OPEN = "+"


def open_token() -> str:
    """The token of a head behind which activities may be scheduled that history does not hold yet: 60 random bits.

    Their schedules are written with their results. Who loads the run must know that what it asks for at the very end
    of its history need not stand there.
    """
    return new_token()[:-1] + _OPEN


def is_open(token: str) -> bool:
    """Whether a head's token is one of `open_token`."""
    return token.endswith(_OPEN)


def derived_run_id(run_id: str, number: int) -> str:
    """The run id of what command ``number`` of a run starts: the same on every replay."""
    return run_id[:12] + hashlib.blake2b(f"{run_id}/{number}".encode(), digest_size=10).hexdigest()
