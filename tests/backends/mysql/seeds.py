"""A hundred thousand runs, written by the server itself, and the statements that a store sends."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from durable.backends.mysql.driver import Result
from durable.backends.mysql.sessions import LinkSession

N = 100_000
_DIGITS = "(" + " UNION ALL ".join(f"SELECT {n} AS d" for n in range(10)) + ")"
_NUMBERS = (
    f"(SELECT a.d + 10 * b.d + 100 * c.d + 1000 * e.d + 10000 * f.d AS n FROM {_DIGITS} a, {_DIGITS} b, {_DIGITS} c, "
    f"{_DIGITS} e, {_DIGITS} f) AS numbers"
)


def runs(prefix: str, workflow: str, due_us: str) -> str:
    """100,000 runs of a workflow; ``due_us`` is an expression on ``n``. Their parts are not those of the ids."""
    return (
        "INSERT INTO instances (part, instance_id, run_id, workflow, version, queue, state, tags, vars, head_number, "
        "head_token, history_bytes, sent, seen, children, claims, created_at_us, updated_at_us, first_run_id, "
        "ready_at_us, claimable_at_us) "
        f"SELECT n % 64, CONCAT('{prefix}', n), CONCAT('{prefix}', n), '{workflow}', '', 'default', 'running', '{{}}', "
        f"'{{}}', 1, 'h', 7, 0, 0, 0, 0, n, n, 'r', {due_us}, {due_us} FROM {_NUMBERS}"
    )


def activities(prefix: str, name: str, due_us: str) -> str:
    """100,000 activities of such runs."""
    return (
        "INSERT INTO activities (part, run_id, number, instance_id, workflow, name, queue, payload, options, "
        "scheduled_at_us, due_at_us, attempt, deliveries, parked, expired, held, claimable_at_us) "
        f"SELECT n % 64, CONCAT('{prefix}', n), 2, CONCAT('{prefix}', n), 'Order', '{name}', 'default', '[]', "
        f"'{{}}', n, n, 1, 0, 0, 0, 0, {due_us} FROM {_NUMBERS}"
    )


def histories(prefix: str) -> str:
    """The first event of each."""
    return (
        "INSERT INTO history (part, instance_id, run_id, first_number, last_number, events) "
        f"SELECT n % 64, CONCAT('{prefix}', n), CONCAT('{prefix}', n), 1, 1, 'started' FROM {_NUMBERS}"
    )


@dataclass
class Sent:
    """The statements that were sent, and what reading they cost the server."""

    statements: list[bytes] = field(default_factory=list)

    def watch(self, monkeypatch: Any) -> None:
        plain = LinkSession.run_all

        async def run_all(session: LinkSession, statements: Sequence[bytes]) -> list[Result]:
            self.statements += statements
            return await plain(session, statements)

        monkeypatch.setattr(LinkSession, "run_all", run_all)


_PLANNED = re.compile(rb"^\(?(SELECT|UPDATE|DELETE)")


def explainable(statement: bytes) -> bytes | None:
    """The statement, if the server makes a plan for it."""
    return statement if _PLANNED.match(statement) else None
