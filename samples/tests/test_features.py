"""Every sample of a feature runs by itself, as its reader would run it, and says nothing on the side."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from samples import features

FOLDER = Path(features.__file__).parent
NAMES = sorted(path.stem for path in FOLDER.glob("*.py") if path.stem != "__init__")


@pytest.mark.parametrize("name", NAMES)
def test_it_runs_and_its_assertions_hold(name: str) -> None:
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-m", f"samples.features.{name}"],
        cwd=FOLDER.parent.parent,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert not re.search(r"Warning|Traceback|never awaited", ran.stderr), ran.stderr


@pytest.mark.parametrize("name", NAMES)
def test_it_asserts_something_and_is_named_in_the_list(name: str) -> None:
    assert "assert " in (FOLDER / f"{name}.py").read_text()
    assert re.search(rf"\b{name}\b", features.__doc__ or "")
