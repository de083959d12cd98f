"""What a line is called on the command line and in the terminal."""

from __future__ import annotations


def store_and_loop(store: str, loop: str) -> str:
    """``sqlite``, ``mysql/asyncmy``, ``postgres, uvloop``."""
    return store if loop == "asyncio" else f"{store}, {loop}"
