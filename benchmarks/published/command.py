"""``python -m benchmarks report``: the last runs' tables, or their publication."""

from __future__ import annotations

import click

from benchmarks.published import kept, pages


@click.command()
@click.option("--publish", is_flag=True, help="Put them into published/*.json, README.md and scale.md.")
@click.option(
    "--only",
    multiple=True,
    type=click.Choice(tuple(kept.FILES)),
    help="Of these files alone; may be given twice. [all in results/]",
)
def report(publish: bool, only: tuple[str, ...]) -> None:
    """Print the tables of the last runs, as they stand in the pages; or publish them.

    Lines that the last runs did not measure stay as they were published before.
    """
    runs = {name: run for name, run in kept.last_runs().items() if not only or name in only}
    if publish:
        try:
            changed = kept.publish(runs)
        except ValueError as problem:
            raise click.ClickException(str(problem)) from problem
        click.echo(f"published: {', '.join(changed) or 'nothing new'}")
        click.echo(f"pages: {', '.join(pages.write(kept.published())) or 'nothing new'}")
        return
    for name, (needs, table) in pages.TABLES.items():
        if all(need in runs for need in needs):
            click.echo(f"\n== {name}\n\n{table(runs)}")
