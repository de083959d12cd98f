"""The workflows that command lines name: ``shop.orders`` (a module, with all it holds) or ``shop.orders:checkout``."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import click

from durable.core.registry import Registry
from durable.primitives.workflow import Workflow

Workflows = dict[tuple[str, str], Workflow[..., Any]]
"""By name and version."""


def workflows_of(targets: tuple[str, ...]) -> Workflows:
    """Import what ``targets`` name. Raises ``click.UsageError`` for what cannot be imported or holds no workflow."""
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)  # as `python -m` does
    registry, found = Registry(), Workflows()
    for target in targets:
        for workflow in _in(target):
            try:
                registry.add_workflow(workflow.definition)
            except ValueError as error:
                raise click.UsageError(str(error)) from None
            found[workflow.definition.name, workflow.definition.version] = workflow
    return found


def _in(target: str) -> list[Workflow[..., Any]]:
    module = imported(target.partition(":")[0])
    name = target.partition(":")[2]
    if name:
        one = getattr(module, name, None)
        if not isinstance(one, Workflow):
            raise click.UsageError(f"{target}: {name!r} is no function decorated with @durable.workflow")
        return [one]
    found = [value for value in vars(module).values() if isinstance(value, Workflow)]
    if not found:
        raise click.UsageError(f"module {target!r} holds no workflow: name the modules that define them")
    return found


def imported(name: str) -> Any:
    """The module. Raises ``click.UsageError`` if it cannot be imported."""
    try:
        return import_module(name)
    except ImportError as error:
        raise click.UsageError(f"module {name!r} cannot be imported: {error}") from error


def named(target: str) -> Any:
    """The object that ``module:name`` stands for. Raises ``click.UsageError``."""
    module, _, name = target.partition(":")
    found = getattr(imported(module), name, None) if name else None
    if found is None:
        raise click.UsageError(f"{target!r} names nothing: write module:name")
    return found
