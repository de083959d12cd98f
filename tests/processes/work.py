"""The worker process: ``python -m tests.processes.work JSON`` works until SIGTERM, or until it is killed."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import sys
from pathlib import Path
from typing import Any

import durable


async def main(told: dict[str, Any]) -> None:
    from tests.processes import bookings, programs, tally

    bookings.countdown.install()
    async with durable.connect(told.pop("url")) as client:
        working = asyncio.ensure_future(durable.Worker(client, [programs, bookings], **told).run())
        while signal.getsignal(signal.SIGTERM) is signal.SIG_DFL and not working.done():  # noqa: ASYNC110
            await asyncio.sleep(0)
        Path(os.environ[tally.VARIABLE]).with_name(f"ready-{os.getpid()}").touch()
        await working


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    asyncio.run(main(json.loads(sys.argv[1])))
