"""A client process: ``python -m tests.processes.releases.ask URL JSON`` creates instances and signals others.

The JSON has ``create`` (name -> program) and ``signal`` (names of instances that are to go on).
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import durable
from tests.processes import verdict
from tests.processes.programs import go


async def main(url: str, asked: dict[str, Any]) -> None:
    async with durable.connect(url) as client:
        await verdict.create(client, asked.get("create", {}))
        for name in asked.get("signal", []):
            await client.get_instance(name).signal(go, None)
    sys.stdout.write(f"release {durable.__version__}")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], json.loads(sys.argv[2])))
