"""The orders on a database server: it starts a throw-away one, runs the sample on it, and starts it again if killed.

    python -m samples.orders.on_server mysql            # the demo, on MariaDB or MySQL
    python -m samples.orders.on_server postgres serve   # any other command of the sample

On a server of your own there is no need for this: ``python -m samples.orders --url mysql://...``.
"""

from __future__ import annotations

import asyncio
import signal
import sys
import tempfile
from pathlib import Path

import click

from durable.testing import servers


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("service", type=click.Choice(["postgres", "mysql"]))
@click.argument("words", nargs=-1, type=click.UNPROCESSED)
def main(service: str, words: tuple[str, ...]) -> None:
    """Run the orders, with any WORDS of their own command line, on a throw-away server."""
    try:
        sys.exit(asyncio.run(_run(service, words)))
    except servers.Unavailable as missing:
        raise click.ClickException(str(missing)) from missing


async def _run(service: str, words: tuple[str, ...]) -> int:
    async with servers.private(service, durable=True) as server, server.database() as url:
        print(f"{server.source}, thrown away at the end.")
        with tempfile.TemporaryDirectory(prefix="orders-") as folder:
            outside = str(Path(folder) / "orders.db")
            command = [sys.executable, "-m", "samples.orders", "--url", url, "--db", outside, *words]
            while (ended := await _once(command)) == -signal.SIGKILL:
                print("\nIt was killed. The next one goes on:\n")
            return ended


async def _once(command: list[str]) -> int:
    process = await asyncio.create_subprocess_exec(*command)
    try:
        return await process.wait()
    except asyncio.CancelledError:  # Ctrl-C, which the sample has got as well
        return await process.wait()


if __name__ == "__main__":
    main()
