"""The next release of the engine, made of this one: a copy of the package with the changes that a release may make.

Its history and messages have another format, a kind of event has another name, another has one more field, and each
store's schema has one more migration, which releases that know the schema before may go on with. Nothing is patched in
a running process: workers and clients of it are processes that import the copy.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.processes.crew import ROOT

_COLUMN = {
    "postgres": "ALTER TABLE {} ADD COLUMN IF NOT EXISTS lane integer NOT NULL DEFAULT 0;\n",
    "mysql": "ALTER TABLE {} ADD COLUMN lane INT NOT NULL DEFAULT 0;\n",
    "sqlite": "ALTER TABLE {} ADD COLUMN lane INTEGER NOT NULL DEFAULT 0;\n",
}
_TABLES = ("instances", "past_runs", "history", "inbox", "activities")
"""The first two have the same columns always: a view joins them."""

_CHANGES = [
    ("core/release.py", 'RELEASE = "', 'RELEASE = "1'),
    ("core/events.py", "\nFORMAT = 1\n", "\nFORMAT = 2\n"),
    ("core/messages.py", "\nFORMAT = 1\n", "\nFORMAT = 2\n"),
]
_EVENTS = """

import json as _json

_encode_before, _event_before = encode_event, event_of


def encode_event(event: Event) -> bytes:
    stored = _json.loads(_encode_before(event))
    if stored["kind"] == "activity_scheduled":
        stored["lane"] = 1
    elif stored["kind"] == "timer_fired":
        stored["kind"] = "timer_went_off"
    return _json.dumps(stored).encode()


def event_of(data: object) -> Event:
    if isinstance(data, dict):
        data.pop("lane", None)
        if data["kind"] == "timer_went_off":
            data["kind"] = "timer_fired"
    return _event_before(data)


def decode_event(stored: bytes) -> Event:
    return event_of(_json.loads(stored))
"""


def make(folder: Path, *, oldest_schema: int = 1) -> Path:
    """Write it to ``folder``. Gives the folder in which its processes run."""
    shutil.copytree(ROOT / "durable", folder / "durable", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "tests").symlink_to(ROOT / "tests")
    for name, before, after in _CHANGES:
        path = folder / "durable" / name
        text = path.read_text()
        assert text.count(before) == 1, (
            f"{name} has changed: {before!r} stands there {text.count(before)} times"
        )
        path.write_text(text.replace(before, after))
    with (folder / "durable" / "core" / "events.py").open("a") as events:
        events.write(_EVENTS)
    for store in _COLUMN:
        _migration(folder / "durable" / "backends" / store / "migrations", store, oldest_schema)
    return folder


def _migration(migrations: Path, store: str, oldest_schema: int) -> None:
    last = max(int(file.name[:4]) for file in migrations.glob("*.sql"))
    lines = [
        f"-- {last + 1:04}: a column more in each of the tables that are written most, and a table more.\n",
        f"-- Oldest schema whose releases may go on: {oldest_schema}\n",
        *(_COLUMN[store].format(table) for table in _TABLES),
        "CREATE TABLE IF NOT EXISTS lanes (number INTEGER PRIMARY KEY);\n",
    ]
    (migrations / f"{last + 1:04}_lanes.sql").write_text("".join(lines))
