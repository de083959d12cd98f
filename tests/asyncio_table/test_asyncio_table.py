"""Each line of the published table: run in a workflow, replayed here from every point, and in another process."""

from __future__ import annotations

import asyncio
import importlib
import inspect
import json
import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from durable.core.events import Event
from durable.testing import replay
from tests.asyncio_table import anyio_cases, asyncio_cases, page
from tests.asyncio_table.table import (
    NOT_APPLICABLE,
    RAISES,
    WORKS,
    cases,
    exported,
    recorded,
    replays_from_every_prefix,
    result_of,
    workflow_of,
)

ROOT = Path(__file__).resolve().parents[2]
HERE = [index for index, case in enumerate(cases) if case.here]
every_case = pytest.mark.parametrize(
    "index", HERE, ids=[f"{cases[index].title}-{cases[index].body.__name__}" for index in HERE]
)


@cache
def history(index: int) -> list[Event]:
    return recorded(cases[index])


@cache
def verdicts(seed: str) -> dict[str, str]:
    """What another process says to all of the histories, in one go."""
    given = {}
    for index in HERE:
        try:
            given[str(index)] = exported(cases[index], history(index))
        except Exception as error:
            given[str(index)] = f"no history: {error}"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "tests.asyncio_table.again"],
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": seed},
        input=json.dumps(given),
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, str] = json.loads(done.stdout)
    return found


@every_case
def test_it_does_in_a_workflow_what_the_table_says(index: int) -> None:
    case = cases[index]
    result = result_of(history(index))
    if case.verdict == RAISES:
        assert case.expected.lower() in result.lower()
        assert result != "was not refused"
    else:
        assert result == case.expected


@every_case
def test_it_replays_from_scratch_and_from_every_point(index: int) -> None:
    case = cases[index]
    replays_from_every_prefix(case, history(index))
    replay(workflow_of(case), exported(case, history(index)), same_code=True)


@every_case
def test_it_replays_in_another_process_under_another_hash_seed(index: int) -> None:
    assert verdicts("4711")[str(index)] == "agrees"


def public_names(module: str) -> set[str]:
    found = importlib.import_module(module)
    if module == "asyncio":
        # `TaskGroup` is public on Python 3.11 too, though not in `__all__`.
        return {name for name in (*asyncio.__all__, "TaskGroup") if not name.startswith("_")}
    listed = getattr(found, "__all__", None) or [name for name in dir(found) if not name.startswith("_")]
    return {name for name in listed if not inspect.ismodule(getattr(found, name))}


_LISTED = ("lowlevel", "functools", "itertools", "to_thread", "from_thread", "to_process", "abc")


@pytest.mark.parametrize("module", ["asyncio", "anyio", *(f"anyio.{name}" for name in _LISTED)])
def test_every_public_name_has_a_line(module: str) -> None:
    told = {name for case in cases if case.module == module and case.here for name in case.names}
    assert public_names(module) - told == set()
    assert {name for name in told if not hasattr(importlib.import_module(module), name)} == set()


@every_case
def test_the_evidence_uses_the_names_that_it_is_for(index: int) -> None:
    case = cases[index]
    if case.verdict == NOT_APPLICABLE or case.module == "anyio.itertools":
        return
    source = inspect.getsource(case.body)
    module = re.escape(case.module)
    if case.body is asyncio_cases.running:
        source += inspect.getsource(asyncio_cases._run_with_runner)
    if any(name.endswith("Stream") for name in case.names):
        source += inspect.getsource(anyio_cases._pipe)
    unused = [name for name in case.names if not re.search(rf"\b(?:{module}|loop)\.{name}\b", source)]
    assert unused == []


def test_a_verdict_is_one_of_three() -> None:
    assert {case.verdict for case in cases} == {WORKS, RAISES, NOT_APPLICABLE}


def test_the_page_is_up_to_date() -> None:
    assert page.PAGE.read_text() == page.text(), "python -m tests.asyncio_table.page writes it anew"
