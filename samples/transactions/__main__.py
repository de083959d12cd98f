"""The command line of the transactions: `python -m samples.transactions`."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import click

import durable
from samples.transactions import demo


@click.command()
@click.option(
    "--url", help="A database on a server, with no tables of the shop yet: postgresql://... or mysql://..."
)
@click.option(
    "--db",
    type=click.Path(path_type=Path),
    default=Path("transactions.db"),
    show_default=True,
    help="Or a file: of the shop's tables and of the engine's.",
)
def main(url: str | None, db: Path) -> None:
    """Order rows with their workflows, and money that is booked exactly once."""
    logging.getLogger("durable").setLevel(logging.ERROR)  # advice about the SQLite version is for workers
    try:
        found = asyncio.run(demo.run(url or f"sqlite:///{db}", new=url is not None or not db.exists()))
    except durable.DurableError as error:
        raise click.ClickException(str(error)) from error
    for one in found:
        click.echo(f"{one.order_id}: {_told(one)}")


def _told(one: demo.Account) -> str:
    if not one.row and one.workflow is None:
        return "rolled back: neither an order row nor a workflow"
    cents = ", ".join(f"{cents / 100:.2f}" for cents in one.booked_cents)
    return f"{one.workflow}; bookings in the table: {cents}"


if __name__ == "__main__":
    main()
