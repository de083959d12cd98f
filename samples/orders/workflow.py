"""The order workflow and its activities. Read `process_order` first: it is the whole business."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import durable
from samples.orders.model import (
    Approval,
    CardDeclined,
    InvalidOrder,
    Order,
    Outcome,
    OutOfStock,
    PaymentUnavailable,
    Step,
)
from samples.orders.outside import Outside

APPROVAL_FROM_CENTS = 50_000

approval: durable.Signal[Approval] = durable.Signal("approval", Approval)
log = logging.getLogger("orders")


class Shop:
    """The activities: they may do I/O. Methods, so that a worker can give them what they work with.

    They are plain functions, because the provider's library blocks: each call runs in a thread.
    """

    def __init__(self, outside: Outside | None = None) -> None:
        self._given = outside

    @property
    def _outside(self) -> Outside:
        if self._given is None:
            raise RuntimeError("this process only starts orders: it has no connection to the provider")
        return self._given

    @durable.activity(retry=durable.Retry(non_retryable=(InvalidOrder,)))
    def validate(self, order: Order) -> None:
        """Raises `InvalidOrder`."""
        _say("validate")
        if order.cents <= 0:
            raise InvalidOrder(f"{order.cents} cents is no price")

    @durable.activity(
        retry=durable.Retry(max_attempts=5, initial=0.2, non_retryable=(CardDeclined,)), timeout=30
    )
    def charge(self, order: Order, key: str) -> str:
        """Gives the receipt. Raises `CardDeclined`; `PaymentUnavailable` is tried again."""
        _say(f"charge {order.cents / 100:.2f}")
        try:
            return self._outside.charge(key, order.card, order.cents)
        except PaymentUnavailable as error:
            _say(f"{error}")
            raise

    @durable.activity(retry=durable.Retry(non_retryable=(OutOfStock,)), timeout=30)
    def fulfil(self, order: Order, key: str) -> str:
        """Gives the number of the parcel. Raises `OutOfStock`."""
        _say(f"fulfil {order.item!r}")
        return self._outside.ship(key, order.item)

    @durable.activity(retry=durable.Retry(max_attempts=None))
    def refund(self, order: Order, key: str, receipt: str) -> None:
        """Tried until it works: we owe the money."""
        _say(f"refund {receipt}")
        self._outside.refund(key, receipt)


shop = Shop()
"""What the workflow calls. It schedules by name; the worker runs the methods of its own `Shop`."""


@durable.workflow
async def process_order(order: Order) -> Outcome:
    """From the order to the parcel, or to a reason why there is none.

    A crash may happen anywhere in here. The next worker runs this function again from the top, and whatever is in the
    history comes back from there instead of being done again.
    """
    # Calls of activities may be repeated around a crash. The key is the same each time, so the money moves once.
    key = f"{order.id}/{durable.uuid4()}"

    durable.set_status(Step.VALIDATING)
    try:
        await shop.validate(order)
    except InvalidOrder as error:
        return _ends(Step.INVALID, f"we cannot take this order: {error}")

    if order.cents >= APPROVAL_FROM_CENTS:
        refusal = await _approval_of(order)
        if refusal is not None:
            return refusal

    durable.set_status(Step.CHARGING)
    try:
        receipt = await shop.charge(order, key)
    except CardDeclined as error:
        return _ends(Step.DECLINED, f"nothing was charged: {error}")
    durable.set_var("receipt", receipt)

    durable.set_status(Step.FULFILLING)
    try:
        parcel = await shop.fulfil(order, key)
    except OutOfStock as error:
        durable.set_status(Step.REFUNDING)
        await shop.refund(order, key, receipt)
        return _ends(Step.REFUNDED, f"your money is on its way back: {error}")
    return _ends(Step.DELIVERED, f"{order.item} is on its way: {parcel}")


async def _approval_of(order: Order) -> Outcome | None:
    """Wait for a person; None when they approve. The deadline is a durable timer: it passes while no worker runs."""
    durable.set_status(Step.WAITING)
    durable.logger.info("wait for an approval, for %g s", order.approve_within_seconds)
    try:
        async with asyncio.timeout(order.approve_within_seconds):
            answer = await approval.receive()
    except TimeoutError:
        return _ends(Step.EXPIRED, f"nobody approved it within {order.approve_within_seconds:g} s")
    if not answer.approved:
        return _ends(Step.REFUSED, f"{answer.by} said no")
    durable.logger.info("approved by %s", answer.by)
    return None


def _ends(step: Step, message: str) -> Outcome:
    durable.set_status(step)
    durable.logger.info("%s: %s", step.value, message)
    return Outcome(step=step, message=message)


def _say(what: str) -> None:
    attempt = durable.activity_info()
    again = f" (attempt {attempt.attempt})" if attempt.attempt > 1 else ""
    log.info("[%s]   %s%s", attempt.instance_id, what, again)


def definitions(outside: Outside) -> list[durable.Workflow[..., Any] | durable.Activity[..., Any]]:
    """What a worker of this shop is given."""
    own = Shop(outside)
    return [process_order, own.validate, own.charge, own.fulfil, own.refund]
