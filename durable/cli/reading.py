"""A client for commands that only look: it makes no file, and does not bring tables up to date."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import unquote

from durable.client import Client
from durable.client.address import Address, open_backend
from durable.core.hooks import HookList, Propagation
from durable.core.payload import Codec, Converter, PlainCodec


@asynccontextmanager
async def reader(url: str | None, codec: Codec | None) -> AsyncIterator[Client]:
    """A client of the store at ``url``. Raises `BackendError`, ``ValueError`` for what is no store."""
    address = Address.of(url)
    _must_exist(address)
    store = await open_backend(address, {})
    client = Client(
        store, Converter(codec=codec or PlainCodec()), address.poll_seconds, Propagation(()), HookList(())
    )
    try:
        yield client
    finally:
        await client.close()


def _must_exist(address: Address) -> None:
    """SQLite would make the file, and the look at a mistyped name would find nothing."""
    path = Path(unquote(address.url.partition(":///")[2].partition("?")[0]))
    if address.scheme == "sqlite" and not path.exists():
        raise ValueError(f"{address.url}: there is no such file")
