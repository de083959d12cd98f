"""A workflow that books money in a transaction, and a worker process of it that kills itself at a chosen statement."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sqlite3
import sys
from pathlib import Path
from typing import Any

import durable
from durable.backends.sqlite import transactions


@durable.activity
async def book(order: str, cents: int) -> str:
    async with durable.transaction() as conn:
        await conn.execute("INSERT INTO bookings VALUES (?, ?)", (order, cents))
        await conn.execute("UPDATE account SET cents = cents + ?", (cents,))
    return f"booked {order}: {cents}"


@durable.workflow
async def shop(order: str, cents: int) -> str:
    return await book(order, cents)


def definitions() -> list[Any]:
    return [shop, book]


def open_account(path: Path) -> None:
    """The user's tables, in the engine's file."""
    db = sqlite3.connect(path)
    try:
        db.execute("CREATE TABLE IF NOT EXISTS bookings (id TEXT, cents INTEGER)")
        db.execute("CREATE TABLE IF NOT EXISTS account AS SELECT 0 AS cents")
        db.commit()
    finally:
        db.close()


class Steps:
    """Counts the statements of the transaction, and kills the process before the one that was chosen is run.

    The one behind the last is the moment when the commit was made and its thread goes on.
    """

    def __init__(self, fatal: int) -> None:
        self.fatal = fatal
        self.seen: list[str] = []

    @staticmethod
    def of(told: str) -> list[str]:
        found: list[str] = json.loads(told.splitlines()[-1])
        return found

    def install(self) -> None:
        connect, ring = transactions.connect, transactions.HeldTransaction._write

        def watched(*args: Any) -> sqlite3.Connection:
            db = connect(*args)
            db.set_trace_callback(self.step)
            return db

        def written(held: Any, outcome: Any) -> Any:
            verdict = ring(held, outcome)
            held._db.set_trace_callback(None)
            if len(self.seen) + 1 == self.fatal:
                os.kill(os.getpid(), signal.SIGKILL)
            return verdict

        transactions.connect = watched  # type: ignore[attr-defined]
        transactions.HeldTransaction._write = written  # type: ignore[method-assign]

    def step(self, statement: str) -> None:
        self.seen.append(" ".join(statement.split()))
        if len(self.seen) == self.fatal:
            os.kill(os.getpid(), signal.SIGKILL)


async def main(path: str, fatal: str) -> None:
    steps = Steps(int(fatal))
    steps.install()
    async with durable.connect(f"sqlite:///{path}") as client, durable.Worker(client, definitions()):
        await client.get_instance("shop").result(timeout=30)
    sys.stdout.write(json.dumps(steps.seen) + "\n")


if __name__ == "__main__":
    # Run by its path's name, the definitions must be those of the module that the tests import.
    from tests.worker import booking

    asyncio.run(booking.main(*sys.argv[1:]))
