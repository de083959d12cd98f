"""What a run publishes about itself: variables, its business status, events for the outbox."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any

from durable.core.context import current_run
from durable.core.ids import check_id

_PLAIN = (str, int, float, bool, type(None), list, dict)


def set_var(name: str, value: Any) -> None:
    """Publish a variable that anyone can read from outside (``await instance.vars()``) once this step is written.

    ``value`` is anything that its own type encodes: plain JSON values, dataclasses, pydantic models, Decimal, ...
    Raises `PayloadError` for the rest.
    """
    run = current_run("durable.set_var()")
    _check_text(name, "the name of a variable")
    annotation = Any if type(value) in _PLAIN else type(value)
    run.set_var(name, run.converter.encode(value, annotation, f"variable {name!r}"))


def set_status(value: str | Enum) -> None:
    """Set the business status on the instance's record: text, or an Enum whose value is text (else its name)."""
    run = current_run("durable.set_status()")
    if isinstance(value, Enum):
        value = value.value if isinstance(value.value, str) else value.name
    _check_text(value, "a status")
    run.set_status(str(value))


def publish(
    topic: str, payload: Any, key: str | None = None, headers: Mapping[str, str] | None = None
) -> None:
    """Write an event to the outbox, in the same transaction as this step of the run.

    ``payload`` is encoded as by `set_var`. Raises `PayloadError`.
    """
    run = current_run("durable.publish()")
    _check_text(topic, "a topic")
    annotation = Any if type(payload) in _PLAIN else type(payload)
    run.publish(topic, run.converter.encode(payload, annotation, f"event on {topic!r}"), key, headers or {})


def _check_text(value: object, what: str) -> None:
    check_id(value, what)
