"""The subscription. Real ones have cycles of months and run for years; here a cycle is a fraction of a second.

A run holds a year's events at most: after `CYCLES_PER_RUN` cycles it goes on as a new run, with the same id.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import durable

CYCLES_PER_RUN = 12
DUNNING_LETTERS = 2


class PaymentDeclined(Exception):
    """The bank said no. It is asked again in the next cycle, not by a retry."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What was subscribed to. ``declined_percent`` of the payments fail; ``seed`` chooses which."""

    customer: str
    cents: int = 1_000
    cycles: int = 5
    cycle_seconds: float = 0.3
    declined_percent: int = 70
    seed: int = 1
    bank_seconds: float = 0.05


@dataclass(frozen=True, kw_only=True)
class Account:
    """What came of it so far."""

    cycle: int = 0
    paid_cents: int = 0
    overdue_cents: int = 0
    declined: int = 0


@durable.activity(retry=durable.Retry(non_retryable=(PaymentDeclined,)), timeout=10)
async def charge(plan: Plan, cents: int, key: str) -> str:
    """Gives the receipt. Raises `PaymentDeclined`. The same key gives the same answer: asking twice is harmless."""
    await asyncio.sleep(plan.bank_seconds)
    if random.Random(f"{plan.seed}/{key.removeprefix(plan.customer)}").randrange(100) < plan.declined_percent:
        raise PaymentDeclined(f"{cents} cents of {plan.customer}")
    return f"receipt {key}"


@durable.workflow
async def subscription(plan: Plan, account: Account | None = None, due: datetime | None = None) -> Account:
    """From the first payment to the last, and two letters more if something is overdue then."""
    account, due = account or Account(), due or durable.now()
    durable.set_var("customer", plan.customer)
    cycles = 0
    while account.cycle < plan.cycles or (account.overdue_cents and not _given_up(plan, account)):
        if cycles == CYCLES_PER_RUN:
            durable.continue_as_new(plan, account, due)
        cycles += 1
        account = replace(account, cycle=account.cycle + 1)
        _show("waiting", account)
        durable.set_var("next_payment", due)
        await durable.sleep_until(due)
        account = await _collect(plan, account)
        due += timedelta(
            seconds=plan.cycle_seconds
        )  # from the due time, not from now: a late worker shifts nothing
    _show("given up" if account.overdue_cents else "ended", account)
    return account


def _given_up(plan: Plan, account: Account) -> bool:
    return account.cycle >= plan.cycles + DUNNING_LETTERS


async def _collect(plan: Plan, account: Account) -> Account:
    """This cycle's amount, and what is overdue."""
    regular = plan.cents if account.cycle <= plan.cycles else 0
    owed = regular + account.overdue_cents
    durable.set_var("owed_cents", owed)
    _show("charging", account)
    try:
        receipt = await charge(plan, owed, f"{plan.customer}/{account.cycle}")
    except PaymentDeclined as error:
        durable.logger.info("declined: %s", error)
        account = replace(account, overdue_cents=owed, declined=account.declined + 1)
        _show("overdue", account)
    else:
        durable.set_var("last_receipt", receipt)
        account = replace(account, paid_cents=account.paid_cents + owed, overdue_cents=0)
        _show("paid", account)
    return account


def _show(step: str, account: Account) -> None:
    durable.set_status(step)
    durable.set_var("step", step)
    durable.set_var("cycle", account.cycle)
    durable.set_var("paid_cents", account.paid_cents)
    durable.set_var("overdue_cents", account.overdue_cents)
