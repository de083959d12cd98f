"""A server for tests in a container, where a container engine answers: laptops without an installed server."""

from __future__ import annotations

import shutil
import signal
import subprocess
from functools import cache

from durable.testing.servers.plan import Plan


@cache
def engine() -> str | None:
    """The command of the engine that answers: docker, else podman, else none."""
    for name in ("docker", "podman"):
        command = shutil.which(name)
        if command is not None and _answers(command):
            return command
    return None


def _answers(command: str) -> bool:
    try:
        return not subprocess.run(
            [command, "ps", "-q"], capture_output=True, timeout=20, check=False
        ).returncode
    except (OSError, subprocess.TimeoutExpired):
        return False


def container(
    command: str,
    *,
    service: str,
    image: str,
    inner_port: int,
    url: str,
    environ: dict[str, str],
    words: list[str],
) -> Plan:
    """A plan for a container that keeps its data from one start to the next, and is removed with them at the end."""
    settings = [word for name, value in environ.items() for word in ("--env", f"{name}={value}")]
    publish = f"127.0.0.1:{{port}}:{inner_port}"
    return Plan(
        service=service,
        source=f"{image} in a container",
        url=url,
        greeting=service,
        # The image is fetched here, and not while the clock of the first answer runs.
        prepare=[[command, "create", "--name", "{name}", "--publish", publish, *settings, image, *words]],
        start=[command, "start", "--attach", "{name}"],
        signals={
            "KILL": [command, "kill", "{name}"],
            "INT": [command, "stop", "{name}"],
            "TERM": [command, "stop", "{name}"],
            "STOP": [command, "pause", "{name}"],
            "CONT": [command, "unpause", "{name}"],
        },
        clean=[[command, "rm", "--force", "--volumes", "{name}"]],
        farewell=signal.SIGTERM,
    )
