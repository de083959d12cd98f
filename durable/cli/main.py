"""The group of commands that ``durable`` is."""

from __future__ import annotations

import click

from durable.cli.check import check
from durable.cli.db import db
from durable.cli.debug import debug
from durable.cli.lint import lint


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="durable-engine")
def main() -> None:
    """Durable workflows for asyncio."""


main.add_command(check)
main.add_command(db)
main.add_command(debug)
main.add_command(lint)
