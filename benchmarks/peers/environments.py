"""An environment of its own for each peer, below ``benchmarks/.peers``: made when it is missing, never committed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
from pathlib import Path

from benchmarks.peers.contestants import Contestant

FOLDER = Path(__file__).parent.parent / ".peers"
SERVER_PACKAGE = "@restatedev/restate-server"
_VERSIONS = (
    "import json; from importlib import metadata;"
    " print(json.dumps({d.metadata['Name']: d.version for d in metadata.distributions()}))"
)


class Missing(Exception):
    """A peer cannot be installed here. The text says why."""


def python_of(one: Contestant) -> Path:
    """The interpreter of a contestant's environment, which is made if need be. Raises `Missing`."""
    if one.environment is None:
        return Path(sys.executable)
    place = FOLDER / one.environment
    python = place / "bin" / "python"
    stamp = place / "installed.json"
    if not stamp.exists() or json.loads(stamp.read_text()) != list(one.packages):
        venv.create(place, with_pip=True, clear=True)
        _run(str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check", *one.packages)
        stamp.write_text(json.dumps(one.packages))
    return python


def versions_of(one: Contestant) -> dict[str, str]:
    """What was installed for it."""
    said = _run(str(python_of(one)), "-c", _VERSIONS)
    found: dict[str, str] = json.loads(said)
    wanted = {package.partition("[")[0] for package in one.packages} if one.packages else {"durable-engine"}
    return {name: version for name, version in found.items() if name in wanted}


def restate_server() -> Path:
    """Restate's server, from its npm package. Raises `Missing`."""
    place = FOLDER / "restate-server"
    system = {"linux": "linux", "darwin": "darwin"}.get(sys.platform, sys.platform)
    machine = {"x86_64": "x64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine)
    server = place / "node_modules" / f"{SERVER_PACKAGE}-{system}-{machine}" / "bin" / "restate-server"
    if not server.exists():
        place.mkdir(parents=True, exist_ok=True)
        _run("npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", str(place), SERVER_PACKAGE)
    return server


def _run(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    except OSError as error:
        raise Missing(f"{command[0]}: {error}") from error
    if done.returncode:
        raise Missing(f"{' '.join(command)}: {done.stderr.strip()[-500:]}")
    return done.stdout
