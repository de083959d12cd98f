"""How rows are broken by hand, behind a store's back: as SQL for stores with our tables, and on the memory store's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from durable.backends.memory.rows import RunRow
from durable.backends.memory.tables import Tables
from durable.backends.records import ANSWER_KINDS

_OF = "WHERE instance_id = '{id}'"
_ANSWERS = f"DELETE FROM inbox {_OF} AND kind IN {ANSWER_KINDS}"
_ASLEEP = f"UPDATE instances SET ready_at_us = NULL, claimable_at_us = NULL {_OF}"
_FIRST = f"DELETE FROM history {_OF} AND first_number = 1"

SQL: dict[str, tuple[str, ...]] = {
    "head_ahead": (f"UPDATE instances SET head_number = head_number + 1 {_OF}",),
    "history_lost": (_FIRST,),
    "end_without_time": (
        f"UPDATE instances SET state = 'completed', ready_at_us = NULL, claimable_at_us = NULL {_OF}",
    ),
    "stranded": (_ASLEEP,),
    "wake_lost": (
        f"UPDATE instances SET wake_at_us = NULL, ready_at_us = NULL, claimable_at_us = NULL {_OF}",
    ),
    "lease_lost": (
        f"UPDATE instances SET lease_owner = NULL, lease_until_us = NULL, claimable_at_us = NULL {_OF}",
    ),
    "retry_lost": (f"UPDATE instances SET retryable_at_us = NULL {_OF}",),
    "deadline_lost": (f"UPDATE instances SET overdue_at_us = NULL {_OF}",),
    "activity_hidden": (f"UPDATE activities SET claimable_at_us = NULL {_OF}",),
    "activity_lost": (f"DELETE FROM activities {_OF}",),
    "answers_lost": (_ANSWERS, _ASLEEP),
    "key_lost": (f"DELETE FROM message_keys {_OF}",),
    "closing_lost": (f"DELETE FROM closings {_OF}",),
    "question_lost": (f"UPDATE questions SET claimable_at_us = NULL {_OF}",),
    "instance_lost": (f"DELETE FROM instances {_OF}",),
}
"""Statements by kind; ``{id}`` is the instance id, which has no quotes in it."""


def _asleep(tables: Tables, run: RunRow) -> None:
    run.ready_at_us = None
    tables.place(run)


def _head_ahead(tables: Tables, run: RunRow) -> None:
    run.head = replace(run.head, number=run.head.number + 1)


def _end_without_time(tables: Tables, run: RunRow) -> None:
    _asleep(tables, run)
    run.state = "completed"


def _wake_lost(tables: Tables, run: RunRow) -> None:
    run.wake_at_us = None
    _asleep(tables, run)


def _lease_lost(tables: Tables, run: RunRow) -> None:
    tables.lease(run, None)
    tables.place(run)


def _activity_hidden(tables: Tables, run: RunRow) -> None:
    for row in run.activities.values():
        tables.activities[row.new.queue, row.new.name].put(row.key, None)


def _activity_lost(tables: Tables, run: RunRow) -> None:
    for row in list(run.activities.values()):
        tables.drop_activity(row)


def _answers_lost(tables: Tables, run: RunRow) -> None:
    inbox = tables.instances[run.instance_id].inbox
    for number in [n for n, row in inbox.items() if row.message.kind in ANSWER_KINDS]:
        del inbox[number]
    _asleep(tables, run)


def _instance_lost(tables: Tables, run: RunRow) -> None:
    del tables.instances[run.instance_id]


MEMORY: dict[str, Callable[[Tables, RunRow], object]] = {
    "head_ahead": _head_ahead,
    "history_lost": lambda tables, run: run.events.pop(0),
    "end_without_time": _end_without_time,
    "stranded": _asleep,
    "wake_lost": _wake_lost,
    "lease_lost": _lease_lost,
    "retry_lost": lambda tables, run: tables.stalled[run.queue, run.workflow, run.version].put(run.key, None),
    "deadline_lost": lambda tables, run: tables.overdue.put(run.key, None),
    "activity_hidden": _activity_hidden,
    "activity_lost": _activity_lost,
    "answers_lost": _answers_lost,
    "key_lost": lambda tables, run: tables.instances[run.instance_id].keys.clear(),
    "closing_lost": lambda tables, run: tables.closings.put(run.key, None),
    "question_lost": lambda tables, run: tables.unanswered.clear(),
    "instance_lost": _instance_lost,
}
