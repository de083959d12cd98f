"""The JSON files: those of the last runs, and the published ones, which keep the last good line of each kind."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
RESULTS = FOLDER.parent / "results"
FILES = {"bench": "latest.json", "peers": "peers.json", "profile": "profile.json", "scale": "scale.json"}
"""By name of a published file: the name of a run's."""
KEYS = {
    "figures": ("workload", "store", "loop"),
    "probes": ("probe", "store", "loop"),
    "lines": ("workload", "engine", "in_flight"),
    "profiles": ("workload", "store", "loop"),
    "rows": ("group", "store", "what"),
}
"""What tells the lines of a list apart."""

Made = Mapping[str, Any]


def published(folder: Path = FOLDER) -> dict[str, Any]:
    """By name: ``bench``, ``peers``, ``profile``, ``scale``. What has not been published yet is missing."""
    return _read(folder, {name: f"{name}.json" for name in FILES})


def last_runs(folder: Path = RESULTS) -> dict[str, Any]:
    """The same of this machine's last runs."""
    return _read(folder, FILES)


def _read(folder: Path, files: Mapping[str, str]) -> dict[str, Any]:
    return {
        name: json.loads((folder / file).read_text())
        for name, file in files.items()
        if (folder / file).exists()
    }


def merged(old: Made | None, new: Made) -> dict[str, Any]:
    """The new run, with those lines of the old that it did not measure, in the old's order."""
    found = dict(new)
    for name, key in KEYS.items():
        if name in new:
            lines = {tuple(line[part] for part in key): line for line in (old or {}).get(name, ())}
            lines |= {tuple(line[part] for part in key): line for line in new[name]}
            found[name] = list(lines.values())
    if old is not None and "versions" in new:
        found["versions"] = {**old.get("versions", {}), **new["versions"]}
    if old is not None:
        servers = {**old["machine"].get("servers", {}), **new["machine"].get("servers", {})}
        found["machine"] = {**new["machine"], "servers": servers}
    return found


def publish(runs: Mapping[str, Made], folder: Path = FOLDER) -> list[str]:
    """Put runs into the published files; the names of those that changed. Raises ``ValueError`` for a quick run."""
    before = published(folder)
    changed = []
    for name, run in runs.items():
        if run.get("quick"):
            raise ValueError(
                f"results/{FILES[name]} is of a --quick run, whose figures say nothing: measure again"
            )
        found = merged(before.get(name), run)
        if found != before.get(name):
            text = json.dumps(found, indent=1, ensure_ascii=False) + "\n"
            (folder / f"{name}.json").write_text(text, encoding="utf-8")
            changed.append(name)
    return changed
