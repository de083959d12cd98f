"""The other process of `durable.testing.other_process`: reads a workflow's name and a history, answers with a report.

One line of JSON in, one line out: the report of a divergence or ``null``, and why the workflow could not be found or
``null``. Modules are imported as the parent did, or,
where that finds another file (test modules that are no package), from their file under their name.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from durable.errors import NonDeterminismError
from durable.primitives.workflow import Workflow
from durable.testing.replayer import replay


def main() -> None:
    """Answer until the input ends."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what test modules print while they are imported is no answer
    for line in sys.stdin.buffer:
        answers.write(json.dumps(_report(json.loads(line))).encode() + b"\n")
        answers.flush()


def _report(asked: dict[str, Any]) -> tuple[str | None, str | None]:
    try:
        workflow = _workflow(asked)
    except Exception as error:
        return None, f"{type(error).__name__}: {error}"
    try:
        replay(workflow, asked["text"], same_code=True)
    except NonDeterminismError as error:
        return str(error), None
    return None, None


def _workflow(asked: dict[str, Any]) -> Workflow[..., Any]:
    module = _module(asked["module"], asked["file"])
    found: Any = module
    for name in asked["qualname"].split("."):
        found = getattr(found, name, None)
    for one in [found, *vars(module).values()]:
        if isinstance(one, Workflow) and one.definition.fn.__qualname__ == asked["qualname"]:
            definition = one.definition
            if (definition.name, definition.version) == (asked["name"], asked["version"]):
                return one
    raise LookupError("no workflow of that name")


def _module(name: str, file: str) -> ModuleType:
    known = sys.modules.get(name)
    if known is not None:
        return known
    spec = _spec(name)
    if spec is None or spec.origin is None or not Path(spec.origin).samefile(file):
        spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _spec(name: str) -> Any:
    try:
        return importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return None
