"""The command line of the orders: the demo, and the parts to play with by hand (and by kill -9)."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

import durable
from samples.orders import demo
from samples.orders.model import Approval, Order
from samples.orders.outside import Outside
from samples.orders.workflow import APPROVAL_FROM_CENTS, approval, definitions, process_order

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where the orders are kept: ``name`` is for people, ``words`` lead other commands to the same place."""

    url: str
    name: str
    words: str
    outside: Path

    def world(self, pace_seconds: float) -> Outside:
        """The world outside. It has a file of its own, because it is not the engine's, whatever the store."""
        return Outside(self.outside, pace_seconds)


def _place(db: Path, url: str | None) -> Place:
    outside = db.with_name(f"{db.stem}-outside.db")
    if url is None:
        return Place(url=f"sqlite:///{db}", name=str(db), words=f"--db {db}", outside=outside)
    scheme, _, rest = url.partition("://")
    return Place(url=url, name=f"{scheme}://{rest.rpartition('@')[2]}", words="--url ...", outside=outside)


def _finish(work: Coroutine[Any, Any, T]) -> T:
    """Run it; what the engine refuses (no such order, no such file) is one line for people, not a traceback."""
    try:
        return asyncio.run(work)
    except durable.DurableError as error:
        raise click.ClickException(str(error)) from error


@click.group(invoke_without_command=True)
@click.option(
    "--db",
    type=click.Path(path_type=Path),
    default=Path("orders.db"),
    show_default=True,
    help="The engine's file.",
)
@click.option("--url", help="Another store than that file: mysql://..., postgresql://...")
@click.pass_context
def main(context: click.Context, db: Path, url: str | None) -> None:
    """Orders that survive a crash. Without a command: the demo, `run`."""
    logging.basicConfig(
        level=logging.WARNING, stream=sys.stdout, format="%(asctime)s %(message)s", datefmt="%H:%M:%S"
    )
    if context.invoked_subcommand in ("order", "approve", "show"):
        logging.getLogger("durable").setLevel(logging.ERROR)  # advice about the SQLite version is for workers
    for name in ("orders", "durable.workflow"):
        logging.getLogger(name).setLevel(logging.INFO)
    context.obj = _place(db, url)
    if context.invoked_subcommand is None:
        context.invoke(run)


@main.command()
@click.option("--pace", default=0.2, show_default=True, help="Seconds that each call to the outside takes.")
@click.pass_obj
def run(place: Place, pace: float) -> None:
    """Run six orders, one for each way through the workflow, and end."""
    outside = place.world(pace)
    before = len(outside.ledger())
    click.echo(
        f"Six orders, kept in {place.name}. Kill me (pid {os.getpid()}) and start me again: I go on.\n"
    )
    outcomes = _finish(demo.run(place.url, outside))
    click.echo("\nWhat became of them:")
    for id, outcome in outcomes.items():
        click.echo(f"  {id:<9} {outcome.step.value:<10} {outcome.message}")
    click.echo("\nWhat the outside saw (payments, refunds, parcels):")
    for what, asked in outside.ledger()[before:]:
        click.echo(f"  {what}" + (f"  (asked for {asked} times, done once)" if asked > 1 else ""))


@main.command()
@click.option("--pace", default=2.0, show_default=True, help="Seconds that each call to the outside takes.")
@click.option(
    "--lease", default=5.0, show_default=True, help="Seconds until others take over a dead worker's work."
)
@click.pass_obj
def serve(place: Place, pace: float, lease: float) -> None:
    """Work on orders until SIGINT or SIGTERM."""
    _finish(_serve(place, place.world(pace), lease))


async def _serve(place: Place, outside: Outside, lease: float) -> None:
    async with durable.connect(place.url) as client:
        click.echo(f"Worker on {place.name}. End me with Ctrl-C, or murder me: kill -9 {os.getpid()}")
        await durable.Worker(client, definitions(outside), lease=lease).run()
    click.echo("Drained and gone.")


@main.command()
@click.argument("id")
@click.option("--item", default="book", show_default=True, help="Of the unicorn there is none.")
@click.option(
    "--cents", default=1_200, show_default=True, help=f"From {APPROVAL_FROM_CENTS}, somebody must approve."
)
@click.option("--card", type=click.Choice(["good", "flaky", "empty"]), default="good", show_default=True)
@click.option("--approve-within", default=3600.0, show_default=True, help="Seconds.")
@click.pass_obj
def order(place: Place, id: str, item: str, cents: int, card: str, approve_within: float) -> None:
    """Order something. It waits in the file until a worker comes."""
    new = Order(id=id, item=item, cents=cents, card=card, approve_within_seconds=approve_within)
    _finish(_order(place, new))


async def _order(place: Place, new: Order) -> None:
    async with durable.connect(place.url) as client:
        await client.create_instance(process_order, new, id=new.id, tags={"item": new.item})
    click.echo(f"Ordered. See: python -m samples.orders {place.words} show {new.id}")


@main.command()
@click.argument("id")
@click.option("--by", default="the boss", show_default=True, help="Who says so.")
@click.option("--refuse", is_flag=True, help="Say no.")
@click.pass_obj
def approve(place: Place, id: str, by: str, refuse: bool) -> None:
    """Approve an order (or refuse it)."""
    _finish(_approve(place, id, Approval(by=by, approved=not refuse)))


async def _approve(place: Place, id: str, answer: Approval) -> None:
    async with durable.connect(place.url) as client:
        await client.get_instance(id).signal(approval, answer)
    click.echo(f"{'Approved' if answer.approved else 'Refused'} by {answer.by}.")


@main.command()
@click.argument("id")
@click.pass_obj
def show(place: Place, id: str) -> None:
    """Show an order: where it is, and its history."""
    _finish(_show(place, id))


async def _show(place: Place, id: str) -> None:
    async with durable.connect(place.url) as client:
        instance = client.get_instance(id, workflow=process_order)
        found = await instance.describe()
        click.echo(f"{found.id}: {found.state}, {found.status or 'waits for its first worker'}")
        for name, value in found.vars.items():
            click.echo(f"  {name} = {value}")
        for event in await instance.history():
            click.echo(f"  {event.number:>3}  {event.time:%H:%M:%S.%f}  {event.kind}  {_detail(event)}")
        if found.state == "completed":
            click.echo(f"  {(await instance).message}")


def _detail(event: durable.HistoryEvent) -> str:
    shown = (event.fields.get(key) for key in ("workflow", "name", "result"))
    return " ".join(str(value) for value in shown if value is not None)


if __name__ == "__main__":
    main()
