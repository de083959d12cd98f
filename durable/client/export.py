"""A run's history as text: what `Client.export_history` gives, and what is kept in files."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import orjson

from durable.backends.records import InstanceView
from durable.core.ids import first_token, is_open

FORMAT = 1


def history_text(view: InstanceView, events: Iterable[bytes]) -> str:
    """A line about the run (code may ask for all of it: ``durable.info()``), then one for each event."""
    parent = None if view.parent is None else (view.parent.instance_id, view.parent.run_id)
    header: dict[str, Any] = {
        "format": FORMAT,
        "instance_id": view.instance_id,
        "run_id": view.run_id,
        "workflow": view.workflow,
        "version": view.version,
        "first_run_id": view.first_run_id,
        "parent": parent,
    }
    if view.head.token == first_token(view.run_id):
        header["begun"] = (
            False  # nobody has applied its last event yet: what that leads to is not there to be missed
        )
    if is_open(view.head.token):
        header["open"] = True  # activities that it has asked for last may not be there yet
    return b"\n".join([orjson.dumps(header), *events]).decode()
