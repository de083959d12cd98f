"""How the events of one checkpoint are kept in one row of the history, and found in it again."""

from __future__ import annotations

import json
from typing import Any

from durable.backends.sql.ledger import Events


def history_row(one: Events) -> tuple[Any, ...]:
    """What one checkpoint appends, as a row of the history: its events one a line, if none has a line break inside."""
    events = one.events
    blob = b"\n".join(events)
    plain = blob.count(b"\n") == len(events) - 1
    lengths = None if plain else json.dumps([len(event) for event in events])
    return (one.part, one.instance_id, one.run_id, one.first, one.first + len(events) - 1, blob, lengths)


def split_events(blob: bytes, lengths: str | None) -> list[bytes]:
    """The events of one row of the history."""
    if lengths is None:
        return blob.split(b"\n")
    events, at = [], 0
    for length in json.loads(lengths):
        events.append(blob[at : at + length])
        at += length + 1
    return events
