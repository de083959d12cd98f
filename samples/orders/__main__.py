"""The command line of the orders: the demo, and the parts to play with by hand (and by kill -9)."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

import click

import durable
from samples.orders import demo
from samples.orders.model import Approval, Order
from samples.orders.outside import Outside
from samples.orders.workflow import APPROVAL_FROM_CENTS, approval, definitions, process_order

T = TypeVar("T")


def _url(db: Path) -> str:
    return f"sqlite:///{db}"


def _outside(db: Path, pace_seconds: float) -> Outside:
    return Outside(db.with_name(f"{db.stem}-outside.db"), pace_seconds)


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
@click.pass_context
def main(context: click.Context, db: Path) -> None:
    """Orders that survive a crash. Without a command: the demo, `run`."""
    logging.basicConfig(
        level=logging.WARNING, stream=sys.stdout, format="%(asctime)s %(message)s", datefmt="%H:%M:%S"
    )
    if context.invoked_subcommand in ("order", "approve", "show"):
        logging.getLogger("durable").setLevel(logging.ERROR)  # advice about the SQLite version is for workers
    for name in ("orders", "durable.workflow"):
        logging.getLogger(name).setLevel(logging.INFO)
    context.obj = db
    if context.invoked_subcommand is None:
        context.invoke(run)


@main.command()
@click.option("--pace", default=0.2, show_default=True, help="Seconds that each call to the outside takes.")
@click.pass_obj
def run(db: Path, pace: float) -> None:
    """Run six orders, one for each way through the workflow, and end."""
    outside = _outside(db, pace)
    before = len(outside.ledger())
    click.echo(f"Six orders, kept in {db}. Kill me (pid {os.getpid()}) and start me again: I go on.\n")
    outcomes = _finish(demo.run(_url(db), outside))
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
def serve(db: Path, pace: float, lease: float) -> None:
    """Work on orders until SIGINT or SIGTERM."""
    _finish(_serve(db, _outside(db, pace), lease))


async def _serve(db: Path, outside: Outside, lease: float) -> None:
    async with durable.connect(_url(db)) as client:
        click.echo(f"Worker on {db}. End me with Ctrl-C, or murder me: kill -9 {os.getpid()}")
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
def order(db: Path, id: str, item: str, cents: int, card: str, approve_within: float) -> None:
    """Order something. It waits in the file until a worker comes."""
    new = Order(id=id, item=item, cents=cents, card=card, approve_within_seconds=approve_within)
    _finish(_order(db, new))


async def _order(db: Path, new: Order) -> None:
    async with durable.connect(_url(db)) as client:
        await client.create_instance(process_order, new, id=new.id, tags={"item": new.item})
    click.echo(f"Ordered. See: python -m samples.orders --db {db} show {new.id}")


@main.command()
@click.argument("id")
@click.option("--by", default="the boss", show_default=True, help="Who says so.")
@click.option("--refuse", is_flag=True, help="Say no.")
@click.pass_obj
def approve(db: Path, id: str, by: str, refuse: bool) -> None:
    """Approve an order (or refuse it)."""
    _finish(_approve(db, id, Approval(by=by, approved=not refuse)))


async def _approve(db: Path, id: str, answer: Approval) -> None:
    async with durable.connect(_url(db)) as client:
        await client.get_instance(id).signal(approval, answer)
    click.echo(f"{'Approved' if answer.approved else 'Refused'} by {answer.by}.")


@main.command()
@click.argument("id")
@click.pass_obj
def show(db: Path, id: str) -> None:
    """Show an order: where it is, and its history."""
    _finish(_show(db, id))


async def _show(db: Path, id: str) -> None:
    async with durable.connect(_url(db)) as client:
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
