"""Fixed addresses for servers that come and go: a door passes on what it hears to whatever server stands behind it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator


class Door:
    """``port`` stays; `lead_to` names the port behind it, or nothing: then who knocks is turned away."""

    def __init__(self) -> None:
        self.port = 0
        self._behind: int | None = None
        self._open: set[asyncio.StreamWriter] = set()

    def lead_to(self, port: int | None) -> None:
        """Whoever is inside is put out: behind the door is another server now."""
        self._behind = port
        for writer in self._open:
            writer.transport.abort()

    async def knock(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """A connection."""
        if self._behind is None:
            writer.transport.abort()
            return
        with contextlib.suppress(OSError):
            inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", self._behind)
            both = {writer, inner_writer}
            self._open |= both
            try:
                await asyncio.gather(_pass_on(reader, inner_writer), _pass_on(inner_reader, writer))
            finally:
                self._open -= both
        writer.transport.abort()


async def _pass_on(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    try:
        while data := await source.read(65_536):
            sink.write(data)
            await sink.drain()
    except OSError:
        pass  # either side is gone, and so is the connection
    finally:
        sink.close()


@contextlib.asynccontextmanager
async def doors(count: int) -> AsyncIterator[list[Door]]:
    """So many doors, which all lead nowhere yet."""
    made = [Door() for _ in range(count)]
    async with contextlib.AsyncExitStack() as stack:
        for door in made:
            server = await asyncio.start_server(door.knock, "127.0.0.1", 0)
            door.port = server.sockets[0].getsockname()[1]
            stack.callback(server.close)
            stack.callback(door.lead_to, None)
        yield made
