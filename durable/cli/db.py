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


@db.command()
@_URL
@click.option("--dry-run", is_flag=True, help="Print the statements, and do nothing.")
def distribute(url: str | None, dry_run: bool) -> None:
    """Lay the tables out over the machines of a distributed PostgreSQL (Citus).

    All tables are cut by their column `part`, and rows of one part stay together; two small tables are copied to every
    machine. The tables are made first if they are not there. What is distributed already stays as it is. Run it as the
    owner, while no worker runs.
    """
    click.echo(_done(_distribute(url, dry_run=dry_run)))


async def _distribute(url: str | None, *, dry_run: bool) -> str:
    address = Address.of(url)
    if address.scheme not in ("postgresql", "postgres"):
        raise ValueError(f"{address.scheme}:// cannot be distributed; postgresql:// can")
    from durable.backends.postgres import address as of_postgres
    from durable.backends.postgres import distributing

    there = of_postgres.parse_url(address.url)
    if dry_run:
        return "\n".join(f"{statement};" for statement in distributing.statements(there.schema).values())
    await _migrate(url)
    issued = await distributing.distribute(there)
    return "\n".join(
        [*(f"{statement};" for statement in issued), f"{there.url}: {len(issued)} tables distributed"]
    )


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
