"""``python -m benchmarks.peers``: see README.md in the folder above."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import click

from benchmarks import chart
from benchmarks.conditions import machine
from benchmarks.peers import report
from benchmarks.peers.contestants import BESIDE, OURS, OURS_IN_TWO, PEERS, WORKLOADS, Contestant
from benchmarks.peers.environments import Missing, python_of, restate_server, versions_of
from benchmarks.peers.rounds import Line, alternate
from benchmarks.report import write
from benchmarks.stores.serving import Serving, serving
from durable.testing.servers import Unavailable

RESULTS = Path(__file__).parent.parent / "results" / "peers.json"


def _chosen(context: click.Context, parameter: click.Parameter, names: str) -> list[Contestant]:
    """A name stands for all stores of a peer."""
    wanted = [name.strip() for name in names.split(",") if name.strip()]
    found = [one for one in PEERS.values() if one.label in wanted or one.name in wanted]
    known = {name for one in PEERS.values() for name in (one.label, one.name)}
    if not found or set(wanted) - known:
        raise click.BadParameter(f"choose from {', '.join(PEERS)}, with commas between", context, parameter)
    return found


@click.command()
@click.option("--peers", default=",".join(PEERS), callback=_chosen, show_default=True)
@click.option("--workloads", default=",".join(WORKLOADS), show_default=True)
@click.option("--rounds", default=5, type=click.IntRange(min=1), show_default=True)
@click.option("--seconds", default=2.0, show_default=True, help="Of a round.")
@click.option("--quick", is_flag=True, help="Two rounds of a second: shows that it works.")
@click.option(
    "--output", type=click.Path(dir_okay=False, path_type=Path), default=RESULTS, help="The JSON file."
)
def main(
    peers: list[Contestant], workloads: str, rounds: int, seconds: float, quick: bool, output: Path
) -> None:
    """Measure the peers beside this project, alternating in one run."""
    rounds, seconds = (2, 1.0) if quick else (rounds, seconds)
    began, before = time.monotonic(), machine()
    here = [one for one in peers if _is_there(one)]
    ours = [OURS[store] for store in dict.fromkeys(BESIDE.get(one.store, one.store) for one in here)]
    versions = {one.name: versions_of(one) for one in [*ours, *here]}
    if any(one.processes > 1 for one in here):
        ours.append(OURS_IN_TWO)
    lines: list[Line] = []
    took, found = 0.0, report.report_of([], versions, before, seconds=seconds, took_seconds=0.0)
    with _postgres() as postgres:
        for name in workloads.upper().split(","):
            click.echo(f"{name}: {', '.join(one.label for one in [*ours, *here])} ...", err=True)
            lines += alternate(name, [*ours, *here], rounds, seconds, postgres)
            took = time.monotonic() - began
            with suppress(Unavailable):  # it is what each line on PostgreSQL says already
                before["servers"] = {"postgres": postgres().version}
            found = report.report_of(lines, versions, before, seconds=seconds, took_seconds=took)
            write(found, output)  # after each: what is measured is not lost
    click.echo(report.table(found))
    for problem in report.problems(lines):
        click.echo(problem)
    click.echo(f"{rounds} rounds of {seconds:g} s, {took / 60:.0f} minutes in all; {versions}")
    click.echo(f"load before: {before['load_before']:.1f}")
    busy = [line.workload for line in lines if line.conditions is not None and line.conditions.busy]
    if busy:
        click.echo(f"Others used this machine meanwhile ({', '.join(dict.fromkeys(busy))}): measure again.")
    ratios = {
        f"{line['workload']} {line['engine']}, {line['in_flight']} in flight": line["ours_is"]
        for line in found["lines"]
        if "ours_is" in line
    }
    plot = chart.draw_ratios(
        "how many times the peer's throughput is ours (W4: its p50, ours)", ratios, output
    )
    if plot is not None:
        click.echo(f"plot: {plot}")
    click.echo(f"written: {output}")


def _is_there(one: Contestant) -> bool:
    try:
        click.echo(f"{one.label}: {python_of(one)}", err=True)
        if one.name == "restate":
            restate_server()
    except Missing as problem:
        click.echo(f"{one.label} is left out: {problem}", err=True)
        return False
    return True


@contextmanager
def _postgres() -> Iterator[Callable[[], Serving]]:
    """A server, started when it is first asked for."""
    with ExitStack() as stack:
        started: list[Serving] = []

        def server() -> Serving:
            if not started:
                started.append(stack.enter_context(serving("postgres")))
            return started[0]

        yield server


if __name__ == "__main__":
    main()
