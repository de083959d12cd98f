"""What an order is, what can become of it, and what can go wrong on the way."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Step(Enum):
    """Where an order is: the status on the instance's record while it runs, and at its end."""

    VALIDATING = "validating"
    WAITING = "waiting for approval"
    CHARGING = "charging"
    FULFILLING = "fulfilling"
    REFUNDING = "refunding"
    DELIVERED = "delivered"
    INVALID = "invalid"
    DECLINED = "declined"
    REFUSED = "refused"
    EXPIRED = "expired"
    REFUNDED = "refunded"


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What a customer wants. ``card`` decides how the simulated payment goes: see `outside.Provider`."""

    id: str
    item: str
    cents: int
    card: str = "good"
    approve_within_seconds: float = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Approval:
    """What a person said about an order that is too large to go through by itself."""

    by: str
    approved: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How it ended: the last step, and a sentence for the customer."""

    step: Step
    message: str


class InvalidOrder(Exception):
    """The order makes no sense. Trying again would not help."""


class CardDeclined(Exception):
    """The bank said no. Trying again would not help."""


class PaymentUnavailable(Exception):
    """The payment provider did not answer. It may, next time."""


class OutOfStock(Exception):
    """The warehouse has none left, and will not have any soon."""
