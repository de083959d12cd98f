"""``durable db``: what is done to a store's database as a whole, mostly by those who own it."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import click

from durable.client.address import Address, open_backend
from durable.errors import BackendError

_URL = click.option(
    "--url", envvar="DURABLE_URL", help="The store. Default: DURABLE_URL, else sqlite:///./durable.db."
)


@click.group()
def db() -> None:
    """Look after the database of a store."""


@db.command()
@_URL
def migrate(url: str | None) -> None:
    """Make the tables, or bring them up to date, as the role that the URL names.

    Processes do that by themselves when they start. This is for those whose role may not.
    """
    click.echo(f"{_done(_migrate(url))}: the tables are up to date")


async def _migrate(url: str | None) -> str:
    address = Address.of(url)
    store = await open_backend(address, {})
    try:
        await store.migrate()
    finally:
        await store.close()
    return store.url


def _done(work: Coroutine[Any, Any, str]) -> str:
    """Run it. What is refused is one line for people, not a traceback."""
    try:
        return asyncio.run(work)
    except (BackendError, ValueError) as error:
        raise click.ClickException(str(error)) from error
