"""The command line of the subscription: `python -m samples.subscription [schedule|await|debug]`."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import click

import durable
from samples.subscription.watching import watch
from samples.subscription.workflow import Account, Plan, charge, subscription

T = TypeVar("T")
LEASE_SECONDS = 2.0


def _finish(work: Coroutine[Any, Any, T]) -> T:
    """Run it; what the engine refuses is one line for people, not a traceback."""
    try:
        return asyncio.run(work)
    except durable.DurableError as error:
        raise click.ClickException(str(error)) from error


def _plan(command: Callable[..., None]) -> Callable[..., None]:
    """The options of what starts a subscription."""
    for option in (
        click.option("--customer", default=None, help="Also the instance's id (default: a new one)."),
        click.option("--cents", default=1_000, show_default=True, help="Of each cycle."),
        click.option("--cycles", default=5, show_default=True),
        click.option("--cycle-seconds", default=0.3, show_default=True),
        click.option("--declined-percent", default=70, show_default=True, help="How many payments fail."),
        click.option("--seed", default=1, show_default=True, help="Chooses which payments fail."),
    ):
        command = option(command)
    return command


def _of(customer: str | None, **options: Any) -> Plan:
    return Plan(customer=customer or f"customer-{secrets.token_hex(2)}", **options)


@click.group(invoke_without_command=True)
@click.option("--db", type=click.Path(path_type=Path), default=Path("subscription.db"), show_default=True)
@click.pass_context
def main(context: click.Context, db: Path) -> None:
    """A subscription that survives a crash. Without a command: `debug`."""
    logging.getLogger("durable").setLevel(logging.ERROR)
    context.obj = f"sqlite:///{db}?poll=0.2"
    if context.invoked_subcommand is None:
        context.invoke(debug)


@main.command()
@_plan
@click.pass_obj
def schedule(url: str, /, **options: Any) -> None:
    """Start it, and leave it to whoever works: `work` in another terminal. Look at it with `show`."""
    plan = _of(**options)
    _finish(_schedule(url, plan))
    click.echo(f"Scheduled {plan.customer}: `work` lets it run, `show {plan.customer}` looks at it.")


async def _schedule(url: str, plan: Plan) -> None:
    async with durable.connect(url) as client:
        await client.create_instance(subscription, plan, id=plan.customer)


@main.command(name="await")
@_plan
@click.pass_obj
def await_(url: str, /, **options: Any) -> None:
    """Start it (or find it, if it runs already), work, and wait for its result."""
    plan = _of(**options)
    account = _finish(_await(url, plan, lambda _: None))
    click.echo(_told(plan.customer, account))


@main.command()
@_plan
@click.pass_obj
def debug(url: str, /, **options: Any) -> None:
    """Like `await`, and print every step, variable and event as it happens."""
    plan = _of(**options)
    account = _finish(_await(url, plan, click.echo))
    click.echo(_told(plan.customer, account))


async def _await(url: str, plan: Plan, say: Callable[[str], None]) -> Account:
    async with (
        durable.connect(url) as client,
        durable.Worker(client, [subscription, charge], lease=LEASE_SECONDS),
    ):
        instance = await client.create_instance(subscription, plan, id=plan.customer, if_exists="use")
        if say is click.echo:
            await watch(instance, say)
        return await instance


@main.command()
@click.option(
    "--seconds", default=None, type=float, help="Stop after so long (default: at SIGINT or SIGTERM)."
)
@click.pass_obj
def work(url: str, seconds: float | None) -> None:
    """Be a worker."""
    _finish(_work(url, seconds))


async def _work(url: str, seconds: float | None) -> None:
    async with durable.connect(url) as client:
        worker = durable.Worker(client, [subscription, charge], lease=LEASE_SECONDS)
        if seconds is None:
            await worker.run()
        else:
            async with worker:
                await asyncio.sleep(seconds)


@main.command()
@click.argument("customer", required=False)
@click.pass_obj
def show(url: str, customer: str | None) -> None:
    """Show a subscription, or all of them: from another process, while they run."""
    for found in _finish(_found(url, customer)):
        shown = ", ".join(f"{name} {value}" for name, value in found.vars.items() if name != "customer")
        click.echo(f"{found.id}: {found.state}, {shown or 'waits for its first worker'}")


async def _found(url: str, customer: str | None) -> list[durable.Description]:
    async with durable.connect(url) as client:
        if customer is not None:
            return [await client.get_instance(customer).describe()]
        return list((await client.list_instances(workflow=subscription, order="oldest")).items)


def _told(customer: str, account: Account) -> str:
    return (
        f"{customer}: paid {account.paid_cents} cents, {account.overdue_cents} overdue, "
        f"{account.declined} of {account.cycle} payments declined"
    )


if __name__ == "__main__":
    main()
