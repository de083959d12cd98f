"""Activities that a workflow names by way of their module."""

from __future__ import annotations

import durable


@durable.activity
async def as_text(value: int) -> str:
    return str(value)
