"""Activities in processes of their own (being written)."""

from __future__ import annotations

from typing import Any


class Processes:
    async def run(self, attempt: Any, definition: Any) -> Any:
        raise NotImplementedError

    async def close(self) -> None:
        return None
