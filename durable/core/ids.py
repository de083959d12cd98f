"""Ids and tokens. Randomness comes from the operating system; ids of children follow from those of their parents."""

from __future__ import annotations

import hashlib
import os
import time

_urandom = os.urandom  # kept: workflow code sees a guarded one
_time_ns = time.time_ns


def new_run_id() -> str:
    """32 hexadecimal digits that sort by time of creation, so that rows of one hour lie together."""
    return f"{_time_ns() // 1_000_000:012x}{_urandom(10).hex()}"


def new_token() -> str:
    """64 random bits: a head or an attempt that nobody else can have guessed or repeated."""
    return _urandom(8).hex()


def derived_run_id(run_id: str, number: int) -> str:
    """The run id of what command ``number`` of a run starts: the same on every replay."""
    return run_id[:12] + hashlib.blake2b(f"{run_id}/{number}".encode(), digest_size=10).hexdigest()
