"""``python -m benchmarks``: see README.md beside this file."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click

from benchmarks import chart, loops, report
from benchmarks.conditions import machine
from benchmarks.figures import Figures
from benchmarks.names import store_and_loop
from benchmarks.probes import LONG, PROBES, probe
from benchmarks.probes.reading import Probed, table
from benchmarks.profiling.command import profile
from benchmarks.published.command import report as report_command
from benchmarks.rounds import compare
from benchmarks.scaling.command import scale
from benchmarks.stores import STORES, Store, chosen, opened
from benchmarks.stores.sqlite import commit_us
from benchmarks.workloads import WORKLOADS

ROUNDS = 5
QUICK_ROUNDS = 2
RESULTS = Path(__file__).parent / "results" / "latest.json"
UVLOOP_TOO = ("W1", "W4")
"""What is measured on uvloop as well, where that is installed and nobody names the loop."""


NAMES = (*WORKLOADS, *PROBES)


def _chosen(context: click.Context, parameter: click.Parameter, names: str) -> list[str]:
    found = [name.strip().upper() for name in names.split(",") if name.strip()]
    unknown = [name for name in found if name not in NAMES]
    if unknown or not found:
        raise click.BadParameter(f"choose from {', '.join(NAMES)}, with commas between", context, parameter)
    return list(dict.fromkeys(found))


@click.group(invoke_without_command=True)
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
@click.option(
    "--loop",
    "on_loops",
    multiple=True,
    type=click.Choice(loops.LOOPS),
    help=f"May be given twice. [asyncio, and uvloop for {' and '.join(UVLOOP_TOO)} where it is installed]",
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
@click.pass_context
def main(
    context: click.Context,
    stores: tuple[str, ...],
    workloads: list[str],
    rounds: int | None,
    on_loops: tuple[str, ...],
    quick: bool,
    output: Path,
    directory: Path | None,
) -> None:
    """Measure the engine beside its floor: the same rows, or the same functions, without an engine.

    The commands below measure something else, or publish what was measured.
    """
    if context.invoked_subcommand is not None:
        return
    for name in on_loops:
        if not loops.is_there(name):
            raise click.ClickException(f"{name} is not installed: pip install 'durable-engine[{name}]'")
    before = machine()
    with tempfile.TemporaryDirectory(prefix="durable-bench-", dir=directory) as place:
        one_commit_us = commit_us(Path(place))
    figures: list[Figures] = []
    probed: list[Probed] = []
    servers: dict[str, str] = {}
    made: dict[str, Any] = {}
    with opened(directory, _missing(stores)) as open_store:
        for name, one, loop in _plan(chosen(stores), workloads, on_loops):
            if (store := open_store(name)) is None:
                continue
            click.echo(f"{one} {store_and_loop(name, loop)} ...", err=True)
            if store.version:
                servers[name.partition("/")[0]] = store.version
            with loops.using(loop):
                _measure(one, store, rounds, quick, figures, probed)
            made = report.report_of(
                figures, probed, quick=quick, commit_us=one_commit_us, servers=servers, machine=before
            )
            report.write(made, output)  # after each: what is measured is not lost
    if figures:
        click.echo(f"{report.table(figures)}\n\n{chart.text(figures)}\n")
        click.echo(f"plot: {chart.draw(figures, output)}")
    if probed:
        click.echo(f"{table(probed)}\n")
    if made:
        _say(made, figures, probed, output)


main.add_command(profile)
main.add_command(scale)
main.add_command(report_command)


def _plan(
    stores: list[str], workloads: list[str], on_loops: tuple[str, ...]
) -> Iterator[tuple[str, str, str]]:
    """Store, workload or probe, loop."""
    for store in stores:
        for one in workloads:
            by_itself = ("uvloop",) if one in UVLOOP_TOO and loops.is_there("uvloop") else ()
            for loop in on_loops or ("asyncio", *by_itself):
                yield store, one, loop


def _measure(
    name: str, store: Store, rounds: int | None, quick: bool, figures: list[Figures], probed: list[Probed]
) -> None:
    if name in WORKLOADS:
        times = rounds or (QUICK_ROUNDS if quick else ROUNDS)
        figures.append(compare(WORKLOADS[name], store, rounds=times, quick=quick))
    elif (found := probe(name, store, rounds=rounds, quick=quick)) is not None:
        probed.append(found)


def _missing(stores: tuple[str, ...]) -> Callable[[str, str], None]:
    """What was asked for by name must be there; of all stores, those are taken that are there."""

    def missing(name: str, problem: str) -> None:
        if stores:
            raise click.ClickException(f"{name} cannot be measured here: {problem}")
        click.echo(f"{name} is left out: {problem}", err=True)

    return missing


def _say(made: dict[str, Any], figures: list[Figures], probed: list[Probed], output: Path) -> None:
    for one in {one.store: one for one in figures}.values():
        click.echo(f"floor of {one.store}: {one.floor_kind}")
    on = made["machine"]
    click.echo(
        f"{on['cores']} cores, Python {on['python']}, SQLite {on['sqlite']}; a commit of one row takes "
        f"{on['commit_of_one_row_us']:,.0f} µs; load before: {on['load_before']:.1f}"
    )
    if any(
        conditions.busy
        for conditions in [one.conditions for one in figures] + [one.conditions for one in probed]
    ):
        click.echo("* others used this machine meanwhile: measure again")
    click.echo(f"written: {output}")


if __name__ == "__main__":
    main()
