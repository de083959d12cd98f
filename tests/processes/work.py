"""The worker process: ``python -m tests.processes.work JSON`` works until SIGTERM, or until it is killed."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from typing import Any

import durable


async def main(told: dict[str, Any]) -> None:
    from tests.processes import bookings, programs

    bookings.countdown.install()
    async with durable.connect(told.pop("url")) as client:
        await durable.Worker(client, [programs, bookings], **told).run()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    asyncio.run(main(json.loads(sys.argv[1])))
