"""What a run knows of itself: its time, its randomness, its ids, and a logger that stays silent during replay."""

from __future__ import annotations

import logging
import random as _random
import uuid as _uuid
from collections.abc import MutableMapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from durable.core.context import current_run, run_or_none

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
SUGGEST_AT_EVENTS = 10_240
SUGGEST_AT_BYTES = 10 * 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowInfo:
    """A run, as `info` describes it. ``parent`` is the parent's (instance id, run id)."""

    instance_id: str
    run_id: str
    first_run_id: str
    workflow: str
    version: str
    queue: str
    parent: tuple[str, str] | None
    started_at: datetime
    history_length: int
    is_replaying: bool
    continue_as_new_suggested: bool
    headers: dict[str, str]


def time_of(micros: int) -> datetime:
    """Microseconds since the epoch as a time-zone-aware UTC ``datetime``."""
    return _EPOCH + timedelta(microseconds=micros)


def now() -> datetime:
    """The current workflow time: that of the event being handled, time-zone-aware UTC."""
    return time_of(current_run("durable.now()").loop.now_us)


def random() -> _random.Random:
    """The run's own random numbers: the same on every replay."""
    return current_run("durable.random()").random()


def uuid4() -> _uuid.UUID:
    """A new UUID from the run's own random numbers: the same on every replay."""
    return _uuid.UUID(int=current_run("durable.uuid4()").random().getrandbits(128), version=4)


def info() -> WorkflowInfo:
    """What this run is."""
    run = current_run("durable.info()")
    identity, definition = run.identity, run.definition
    return WorkflowInfo(
        instance_id=identity.instance_id,
        run_id=identity.run_id,
        first_run_id=identity.first_run_id,
        workflow=definition.name,
        version=definition.version,
        queue=run.queue,
        parent=identity.parent,
        started_at=time_of(run.started_us),
        history_length=run.history_length,
        is_replaying=run.replaying,
        continue_as_new_suggested=run.history_length >= SUGGEST_AT_EVENTS
        or run.history_bytes >= SUGGEST_AT_BYTES,
        headers=dict(run.started_headers),
    )


class _RunLogger(logging.LoggerAdapter[logging.Logger]):
    """Adds the ids of the run; silent while history is replayed (it was said the first time) and when dropped."""

    def isEnabledFor(self, level: int) -> bool:
        run = run_or_none()
        if run is not None and (run.replaying or run.loop.is_closed()):
            return False
        return super().isEnabledFor(level)

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        run = run_or_none()
        if run is not None:
            ids = {
                "instance_id": run.identity.instance_id,
                "run_id": run.identity.run_id,
                "workflow": run.definition.name,
            }
            kwargs["extra"] = {**(kwargs.get("extra") or {}), **ids}
            msg = f"[{run.identity.instance_id}] {msg}"
        return msg, kwargs


logger = _RunLogger(logging.getLogger("durable.workflow"), {})
"""A logger for workflow code."""
