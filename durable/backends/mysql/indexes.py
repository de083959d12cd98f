"""Which index a table of a statement is read by, said to the server (``FORCE INDEX``).

The optimizer guesses by samples that may be old, and takes a small table whole. Both would be right for reading, once;
but a locking read locks all that it looks at, and tables grow. Every condition here leads an index, so there is nothing
to be guessed. What no rule matches (lists for people, counts, the audit) is left to the optimizer.
"""

from __future__ import annotations

import re

_NAMED = re.compile(r"@(\w+) AS (\w+)")

# The first that matches counts. {a} is the table's alias.
_RULES: dict[str, tuple[tuple[str, str], ...]] = {
    "instances": (
        ("instances_leased", r"{a}\.lease_owner ="),
        ("instances_children", r"{a}\.parent_id ="),
        ("instances_retryable", r"{a}\.queue = wanted\..*{a}\.retryable_at_us (?:<|>|IS NOT)"),
        ("instances_overdue", r"{a}\.overdue_at_us (?:<|>)"),
        ("instances_claimable", r"{a}\.queue = wanted\..*{a}\.claimable_at_us (?:<|>)"),
        ("instances_closed", r"{a}\.closed_at_us <"),
        ("instances_created", r"ORDER BY {a}\.created_at_us"),
    ),
    "past_runs": (
        ("past_runs_children", r"{a}\.parent_id ="),
        ("past_runs_closed", r"{a}\.closed_at_us <"),
        ("past_runs_created", r"ORDER BY {a}\.created_at_us"),
    ),
    "activities": (
        ("activities_claimable", r"{a}\.queue = wanted\..*{a}\.claimable_at_us (?:<|>)"),
        ("activities_expirable", r"{a}\.expirable_at_us (?:<|>)"),
    ),
    "closings": (("closings_claimable", r"{a}\.claimable_at_us (?:<|>)"),),
    "questions": (
        ("questions_claimable", r"{a}\.claimable_at_us (?:<|>)"),
        ("questions_kept", r"{a}\.kept_until_us (?:<|>)"),
    ),
    "outbox": (
        ("outbox_id", r"{a}\.id ="),
        ("outbox_order", r"ORDER BY {a}\.created_at_us"),
        ("outbox_leased", r"ORDER BY {a}\.lease_until_us"),
    ),
}


def index_of(table: str, alias: str, sql: str) -> str | None:
    """The index by which this statement reads the table that it calls ``alias``."""
    for index, pattern in (("PRIMARY", r"\b{a}\.part ="), *_RULES.get(table, ())):
        if re.search(pattern.format(a=alias), sql):
            return index
    return None


def with_indexes(sql: str) -> str:
    """The statement, with an index named behind each table for which one is known."""

    def named(found: re.Match[str]) -> str:
        index = index_of(found[1], found[2], sql)
        return found[0] if index is None else f"{found[0]} FORCE INDEX ({index})"

    return _NAMED.sub(named, sql)
