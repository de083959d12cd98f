"""The tables of a store on a server: columns with their kinds, in the order of the schema, and keys.

The schema itself is in each server's ``migrations``; a test compares.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from durable.backends.sql.rows import ACTIVITY_COLUMNS, INBOX_COLUMNS, RUN_COLUMNS

Kind = Literal["part", "int", "id", "text", "json", "bytes"]
"""``part``: 0 to 63. ``int``: 64 bits. ``id``: a name, compared by bytes, mostly at most 512 of them. ``text``: of any
length. ``json``: a text that is JSON, kept as it is written. ``bytes``: of any length."""


@dataclass(frozen=True, slots=True)
class Table:
    """A table. ``key``: its primary key, which leads with ``part`` (but for the two that belong to no instance)."""

    name: str
    columns: Mapping[str, Kind]
    key: tuple[str, ...]


_INTS = (
    *(
        "parent_number",
        "head_number",
        "history_bytes",
        "sent",
        "seen",
        "children",
        "ready_at_us",
        "wake_at_us",
    ),
    *("claims", "lease_until_us", "claimable_at_us", "start_at_us", "deadline_us", "overdue_at_us"),
    *("created_at_us", "updated_at_us", "closed_at_us", "problem_stalls", "retry_at_us", "retryable_at_us"),
    *("number", "scheduled_at_us", "due_at_us", "attempt", "deliveries", "expires_at_us", "expirable_at_us"),
    *("parked", "expired", "held", "sent_at_us", "first_number", "last_number", "asked_at_us"),
    *("kept_until_us", "sequence"),
)
_TEXTS = (
    *("result", "failure", "reason", "problem", "payload", "options", "details", "body", "reply", "value"),
    *("lengths", "status"),
)
_KINDS: Mapping[str, Kind] = {
    "part": "part",
    **dict.fromkeys(_INTS, "int"),
    **dict.fromkeys(_TEXTS, "text"),
    "tags": "json",
    "vars": "json",
    "headers": "json",
    "events": "bytes",
}


def _table(name: str, columns: Sequence[str], key: str) -> Table:
    return Table(name, {column: _KINDS.get(column, "id") for column in columns}, tuple(key.split()))


INSTANCES = _table("instances", RUN_COLUMNS, "part instance_id")
PAST_RUNS = _table("past_runs", RUN_COLUMNS, "part instance_id run_id")
HISTORY = _table(
    "history",
    ("part", "instance_id", "run_id", "first_number", "last_number", "events", "lengths"),
    "part instance_id run_id first_number",
)
INBOX = _table("inbox", INBOX_COLUMNS, "part instance_id number")
MESSAGE_KEYS = _table("message_keys", ("part", "instance_id", "key"), "part instance_id key")
ACTIVITIES = _table("activities", ACTIVITY_COLUMNS, "part instance_id run_id number")
CLOSINGS = _table("closings", ("part", "run_id", "instance_id", "claimable_at_us"), "part instance_id run_id")
QUESTIONS = _table(
    "questions",
    (
        *("part", "id", "instance_id", "run_id", "name", "body", "asked_at_us", "expires_at_us"),
        *("claimable_at_us", "reply", "kept_until_us"),
    ),
    "part instance_id id",
)
UPDATE_REPLIES = _table("update_replies", ("part", "instance_id", "id", "body"), "part instance_id id")
OUTBOX = _table(
    "outbox",
    (
        *(
            "part",
            "run_id",
            "sequence",
            "instance_id",
            "workflow",
            "id",
            "topic",
            "payload",
            "key",
            "headers",
        ),
        *("created_at_us", "lease_until_us"),
    ),
    "part instance_id run_id sequence",
)
ROLES = _table("roles", ("role", "worker_id", "lease_until_us"), "role")
META = _table("meta", ("name", "value"), "name")

TABLES: Mapping[str, Table] = {
    table.name: table
    for table in (
        *(INSTANCES, PAST_RUNS, HISTORY, INBOX, MESSAGE_KEYS, ACTIVITIES),
        *(CLOSINGS, QUESTIONS, UPDATE_REPLIES, OUTBOX, ROLES, META),
    )
}
