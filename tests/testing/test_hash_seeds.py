"""Strings hash differently in every process; the replayer sees what comes of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest


def program(what: str, seed: str, given: Any = None) -> Any:
    done = subprocess.run(
        [sys.executable, "-m", "tests.testing.set_orders", what],
        env={**os.environ, "PYTHONHASHSEED": seed},
        input=json.dumps(given),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def histories() -> Any:
    return program("record", "1")


def test_under_the_same_seed_everything_agrees(histories: Any) -> None:
    assert set(program("replay", "1", histories).values()) == {"agrees"}


def test_iterating_a_set_of_strings_is_caught_under_another_seed(histories: Any) -> None:
    verdicts = program("replay", "2", histories)
    for name in ("in_any_order", "all_at_once"):
        for same_code in (False, True):
            report = verdicts[f"{name} {same_code}"]
            assert "in another order" in report
            assert "sorted(" in report
            assert "set_orders.py:" in report
            assert "args[0]: " in report
    assert verdicts["sorted_first False"] == verdicts["sorted_first True"] == "agrees"


def test_a_single_other_argument_is_legal_unless_the_code_is_the_same(histories: Any) -> None:
    verdicts = program("replay", "2", histories)
    assert verdicts["the_first_only False"] == "agrees"
    assert "is not deterministic" in verdicts["the_first_only True"]
