"""``python -m benchmarks``: see README.md beside this file."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import click

from benchmarks import chart, report
from benchmarks.figures import Figures
from benchmarks.probes import LONG, PROBES, probe
from benchmarks.probes.reading import Probed, table
from benchmarks.rounds import compare
from benchmarks.stores import STORES, chosen, opened
from benchmarks.stores.sqlite import commit_us
from benchmarks.workloads import WORKLOADS

ROUNDS = 5
QUICK_ROUNDS = 2
RESULTS = Path(__file__).parent / "results" / "latest.json"


NAMES = (*WORKLOADS, *PROBES)


def _chosen(context: click.Context, parameter: click.Parameter, names: str) -> list[str]:
    found = [name.strip().upper() for name in names.split(",") if name.strip()]
    unknown = [name for name in found if name not in NAMES]
    if unknown or not found:
        raise click.BadParameter(f"choose from {', '.join(NAMES)}, with commas between", context, parameter)
    return list(dict.fromkeys(found))


@click.command()
@click.option(
    "--store",
    "stores",
    multiple=True,
    type=click.Choice(STORES),
    help="May be given twice. [all that are there]",
)
@click.option(
    "--workloads",
    default=",".join(name for name in NAMES if name not in LONG),
    callback=_chosen,
    show_default=True,
)
@click.option(
    "--rounds", type=click.IntRange(min=1), help=f"Of engine and floor each. [{ROUNDS}; quick {QUICK_ROUNDS}]"
)
@click.option("--quick", is_flag=True, help="A few seconds in all: shows that it works, not how fast it is.")
@click.option(
    "--output", type=click.Path(dir_okay=False, path_type=Path), default=RESULTS, help="The JSON file."
)
@click.option(
    "--directory",
    type=click.Path(file_okay=False, exists=True, path_type=Path),
    help="Where database files are made and removed: the disk that is measured. [the system's place for such files]",
)
def main(
    stores: tuple[str, ...],
    workloads: list[str],
    rounds: int | None,
    quick: bool,
    output: Path,
    directory: Path | None,
) -> None:
    """Measure the engine beside its floor: the same rows, or the same functions, without an engine."""
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="durable-bench-", dir=directory) as place:
        one_commit_us = commit_us(Path(place))
    figures: list[Figures] = []
    probed: list[Probed] = []
    times = rounds or (QUICK_ROUNDS if quick else ROUNDS)
    with opened(directory, _missing(stores)) as open_store:
        for name in chosen(stores):
            if (store := open_store(name)) is None:
                continue
            for one in workloads:
                click.echo(f"{one} {name} ...", err=True)
                if one in WORKLOADS:
                    figures.append(compare(WORKLOADS[one], store, rounds=times, quick=quick))
                elif (found := probe(one, store, rounds=rounds, quick=quick)) is not None:
                    probed.append(found)
    made = report.report_of(figures, probed, quick=quick, commit_us=one_commit_us, load=load)
    report.write(made, output)
    if figures:
        click.echo(f"{report.table(figures)}\n\n{chart.text(figures)}\n")
        click.echo(f"plot: {chart.draw(figures, output)}")
    if probed:
        click.echo(f"{table(probed)}\n")
    _say(made, figures, output)


def _missing(stores: tuple[str, ...]) -> Callable[[str, str], None]:
    """What was asked for by name must be there; of all stores, those are taken that are there."""

    def missing(name: str, problem: str) -> None:
        if stores:
            raise click.ClickException(f"{name} cannot be measured here: {problem}")
        click.echo(f"{name} is left out: {problem}", err=True)

    return missing


def _say(found: dict[str, object], figures: list[Figures], output: Path) -> None:
    machine = found["machine"]
    assert isinstance(machine, dict)
    for one in {one.store: one for one in figures}.values():
        click.echo(f"floor of {one.store}: {one.floor_kind}")
    click.echo(
        f"{machine['cores']} cores, Python {machine['python']}, SQLite {machine['sqlite']}; a commit of one row takes "
        f"{machine['commit_of_one_row_us']:,.0f} µs; load before: {machine['load_before']:.1f}"
    )
    click.echo(f"written: {output}")


if __name__ == "__main__":
    main()
