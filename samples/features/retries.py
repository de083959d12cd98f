"""Retries: three attempts unless said otherwise; some errors are not tried again; the last one comes out as itself."""

from __future__ import annotations

import asyncio

import durable


class CardDeclined(Exception):
    """Trying again makes no sense."""


class Busy(Exception):
    """Trying again does."""


@durable.activity(retry=durable.Retry(max_attempts=5, initial=0.02, non_retryable=(CardDeclined,)))
async def charge(card: str) -> str:
    """Each card has its ways."""
    attempt = durable.activity_info().attempt
    print(f"  {card}: attempt {attempt}")
    if card == "flaky" and attempt < 3:
        raise Busy("try again")
    if card == "slow" and attempt == 1:
        raise durable.RetryAfter(0.1)
    if card == "empty":
        raise CardDeclined("no money")
    if card == "forged":
        raise durable.NonRetryable("this is no card")
    if card == "broken":
        raise Busy("always")
    return f"paid in attempt {attempt}"


@durable.workflow
async def pay(card: str) -> str:
    """Gives what came of it."""
    try:
        return await charge(card)
    except (CardDeclined, durable.NonRetryable, Busy) as error:
        return f"{type(error).__name__}: {error}"


async def main() -> None:
    """All cards."""
    expected = {
        "good": "paid in attempt 1",
        "flaky": "paid in attempt 3",
        "slow": "paid in attempt 2",
        "empty": "CardDeclined: no money",
        "forged": "NonRetryable: this is no card",
        "broken": "Busy: always",
    }
    async with durable.connect("memory://") as client, durable.Worker(client, [pay, charge]):
        found = {card: await (await client.create_instance(pay, card)) for card in expected}
    print(found)
    assert found == expected


if __name__ == "__main__":
    asyncio.run(main())
