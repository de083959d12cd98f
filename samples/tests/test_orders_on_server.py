"""The orders on a throw-away server, with a kill -9 in their middle."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from durable.testing import servers

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.mark.parametrize("service", ["mysql", "postgres"])
def test_the_demo_survives_kill_9_on_a_server(service: str) -> None:
    command = [sys.executable, "-u", "-m", "samples.orders.on_server", service, "run", "--pace", "0.1"]
    environ = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        command, cwd=ROOT, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None
        lines = []
        demo = 0
        for line in process.stdout:
            lines.append(line)
            started = re.search(r"Kill me \(pid (\d+)\)", line)
            if started:
                demo = int(started[1])
            if "fulfil 'book'" in line and "It was killed" not in "".join(lines):
                os.kill(demo, signal.SIGKILL)
    said = "".join(lines)
    if "no server for" in said and not servers.required(service):
        pytest.skip(said)
    assert process.returncode == 0, said
    assert "It was killed. The next one goes on:" in said
    for who, became in {"ann": "delivered", "cat": "declined", "dan": "refunded", "fay": "expired"}.items():
        assert re.search(rf"  {who}-\w{{4}}  +{became} ", said), said
    assert (
        len(re.findall(r"^  parcel-ann-\w{4}\b", said, re.MULTILINE)) == 1
    )  # asked for twice, perhaps; sent once
