"""``durable lint``: what in workflow code would diverge, block, or lose a cancellation."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from durable.lint import RULES, Finding
from durable.lint import lint as findings_in


@click.command()
@click.argument("paths", nargs=-1, type=click.Path(exists=True, path_type=Path))
@click.option("--rules", is_flag=True, help="List the rules and leave.")
def lint(paths: tuple[Path, ...], rules: bool) -> None:
    """Look for mistakes in the workflows of files and folders (default: here).

    Calls are followed within the package. A line that is all right in spite of a rule gets `# durable: ok - reason`.
    The exit code is 1 when something was found.
    """
    if rules:
        for rule in RULES.values():
            click.echo(f"{rule.code}  {rule.about}: {rule.instead}")
        return
    try:
        found = findings_in(paths or (Path(),))
    except (SyntaxError, OSError, ValueError) as error:
        raise click.UsageError(f"cannot be read: {error}") from error
    for finding in found:
        click.echo(f"{_shown(finding)}: {finding.message}")
    sys.exit(1 if found else 0)


def _shown(finding: Finding) -> str:
    path = finding.path
    if path.is_relative_to(Path.cwd()):
        path = path.relative_to(Path.cwd())
    return f"{path}:{finding.line}:{finding.column + 1}"
