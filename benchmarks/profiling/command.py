"""``python -m benchmarks profile``: where the time of a workflow goes, part by part."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import click

from benchmarks import loops
from benchmarks.conditions import machine, noted, now
from benchmarks.profiling.profiled import Profiled, rooms_of
from benchmarks.profiling.stacks import Seen, read
from benchmarks.report import write
from benchmarks.stores import STORES, Store, chosen, opened
from benchmarks.stores.serving import Serving
from benchmarks.workloads import WORKLOADS

RESULTS = Path(__file__).parent.parent / "results" / "profile.json"
FORMAT = 1
TIMES_A_SECOND = 500
COUNTS = {"W1": 6_000, "W1K": 6_000, "W2": 1_000, "W3": 120, "W4": 800}
"""Workflows of a profile: some seconds, so that a part with a hundredth of the time is seen ten times and more."""
PATIENCE_SECONDS = 120.0


@click.command()
@click.option("--store", "stores", multiple=True, type=click.Choice(STORES), help="[sqlite, postgres]")
@click.option("--workloads", default="W1,W2,W3,W4", show_default=True)
@click.option("--loop", default="asyncio", type=click.Choice(loops.LOOPS), show_default=True)
@click.option("--quick", is_flag=True, help="Shows that it works.")
@click.option(
    "--output", type=click.Path(dir_okay=False, path_type=Path), default=RESULTS, help="The JSON file."
)
def profile(stores: tuple[str, ...], workloads: str, loop: str, quick: bool, output: Path) -> None:
    """Where the CPU time of a workflow goes, part by part of the engine (with py-spy)."""
    from benchmarks.published.profiles import hottest, tables

    names = [name for name in workloads.upper().split(",") if name]
    if unknown := set(names) - set(WORKLOADS):
        raise click.BadParameter(f"{', '.join(sorted(unknown))}: choose from {', '.join(WORKLOADS)}")
    before, servers, found = machine(), {}, []
    with opened(None, _missing) as open_store:
        for each in chosen(stores or ("sqlite", "postgres")):
            store = open_store(each)
            assert store is not None
            if store.version:
                servers[each.partition("/")[0]] = store.version
            for name in names:
                click.echo(f"{name} {each} ...", err=True)
                found.append(
                    _profiled(name, store, loop, WORKLOADS[name].count(True) if quick else COUNTS[name])
                )
    made: dict[str, Any] = {
        "format": FORMAT,
        "taken_at": now(),
        "quick": quick,
        "machine": {**before, "servers": servers},
        "profiles": [dataclasses.asdict(one) for one in found],
    }
    write(made, output)
    made = json.loads(output.read_text())
    click.echo(f"{tables(made)}\n\n{hottest(made)}")
    click.echo(f"load before: {before['load_before']:.1f}; written: {output}")


def _missing(name: str, problem: str) -> None:
    raise click.ClickException(f"{name} cannot be profiled here: {problem}")


def _profiled(name: str, store: Store, loop: str, count: int) -> Profiled:
    server: Serving | None = getattr(store, "server", None)
    with noted() as conditions, store.new() as first, store.new() as second:
        readings, seen = _watched(
            {
                "workload": name,
                "urls": [first, second],
                "count": count,
                "loop": loop,
                "server": None if server is None else server.pid,
            }
        )
    main_us = readings["main_seconds"] / count * 1e6
    others_us = max(0.0, readings["cpu_seconds"] / count * 1e6 - main_us)
    rooms, hot = rooms_of(seen, main_us, others_us)
    return Profiled(
        workload=name,
        store=store.name,
        loop=loop,
        workflows=count,
        samples=sum(one.times for one in seen),
        main_us=main_us,
        others_us=others_us,
        server_us=None if server is None else readings["server_seconds"] / count * 1e6,
        rooms=rooms,
        hottest=hot,
        conditions=conditions,
    )


def _watched(job: dict[str, Any]) -> tuple[dict[str, float], list[Seen]]:
    """Run the program under py-spy. ``--nonblocking``: nothing is stopped, so that waking it costs nothing either."""
    with tempfile.TemporaryDirectory(prefix="durable-profile-") as folder:
        stacks = Path(folder) / "stacks.txt"
        command = [
            *(_py_spy(), "record", "--nonblocking", "--threads", "--full-filenames", "--format", "raw"),
            *("--rate", str(TIMES_A_SECOND), "--output", str(stacks), "--"),
            *(sys.executable, "-m", "benchmarks.profiling.program", json.dumps(job)),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE_SECONDS)
        for line in done.stdout.splitlines():
            if line.startswith("READINGS "):
                return json.loads(line.removeprefix("READINGS ")), list(
                    read(stacks.read_text().splitlines(), within="profiled_part")
                )
    raise click.ClickException(f"the profile failed: {(done.stderr or done.stdout).strip()[-1000:]}")


def _py_spy() -> str:
    """It is a program of the environment, and no module that could be imported."""
    program = Path(sys.executable).parent / "py-spy"
    if not program.exists():
        raise click.ClickException("py-spy is not installed: pip install 'durable-engine[bench]'")
    return str(program)
