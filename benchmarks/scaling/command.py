"""``python -m benchmarks scale``: which processes and settings carry how much, and what the limit is."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import click

from benchmarks.conditions import Conditions, cores_in_use, machine, now
from benchmarks.crew import measure
from benchmarks.report import write
from benchmarks.scaling.setups import DATABASE, PROCESSES, WORKER, Setup, setups
from benchmarks.stores import Store, opened
from benchmarks.stores.serving import Serving

RESULTS = Path(__file__).parent.parent / "results" / "scale.json"
FORMAT = 1
SECONDS, QUICK_SECONDS = 1.5, 0.2
STORES = ("postgres", "mysql", "sqlite")


@click.command()
@click.option("--store", "stores", multiple=True, type=click.Choice(STORES), help="[all that are there]")
@click.option(
    "--group", "groups", multiple=True, type=click.Choice((PROCESSES, WORKER, DATABASE)), help="[all]"
)
@click.option("--seconds", default=SECONDS, show_default=True, help="Of a line.")
@click.option("--quick", is_flag=True, help="The first line of each group and store: shows that it works.")
@click.option(
    "--output", type=click.Path(dir_okay=False, path_type=Path), default=RESULTS, help="The JSON file."
)
def scale(
    stores: tuple[str, ...], groups: tuple[str, ...], seconds: float, quick: bool, output: Path
) -> None:
    """How much processes, options and settings carry, and what the limit is."""
    from benchmarks.published.scaling import GROUPS, table

    began, before, servers = time.monotonic(), machine(), {}
    rows: list[dict[str, Any]] = []
    made: dict[str, Any] = {}
    tried = [one for one in setups() if one.store in (stores or STORES) and one.group in (groups or GROUPS)]
    if quick:
        seconds, tried = QUICK_SECONDS, _first_of_each(tried)
    with opened(None, _missing(stores)) as open_store:
        for setup in tried:
            if (store := open_store(setup.store)) is None:
                continue
            if store.version:
                servers[setup.store] = store.version
            click.echo(f"{setup.group} {setup.store}: {setup.what} ...", err=True)
            rows.append(_row(setup, store, seconds))
            made = {
                "format": FORMAT,
                "taken_at": now(),
                "took_seconds": round(time.monotonic() - began),
                "quick": quick,
                "seconds_a_line": seconds,
                "machine": {**before, "servers": servers},
                "rows": rows,
            }
            write(made, output)
    for group in GROUPS:
        if any(row["group"] == group for row in rows):
            click.echo(f"{group}\n\n{table(made, group)}\n")
    click.echo(
        f"{time.monotonic() - began:.0f} s; load before: {before['load_before']:.1f}; written: {output}"
    )


def _first_of_each(tried: list[Setup]) -> list[Setup]:
    return list({(one.group, one.store): one for one in reversed(tried)}.values())


def _missing(stores: tuple[str, ...]) -> Callable[[str, str], None]:
    def missing(name: str, problem: str) -> None:
        if stores:
            raise click.ClickException(f"{name} cannot be measured here: {problem}")
        click.echo(f"{name} is left out: {problem}", err=True)

    return missing


def _row(setup: Setup, store: Store, seconds: float) -> dict[str, Any]:
    conditions = Conditions(
        taken_at=now(), load_average=machine()["load_before"], others_cores=cores_in_use()
    )
    server: Serving | None = getattr(store, "server", None)
    with store.new() as url, _set(server, setup.settings):
        sign = "&" if "?" in url else "?"
        worked = measure(
            url + (sign + urlencode(setup.url) if setup.url else ""), setup.crew, seconds, server
        )
    return {
        "group": setup.group,
        "store": setup.store,
        "what": setup.what,
        **dataclasses.asdict(setup.crew),
        "worked": dataclasses.asdict(worked),
        "conditions": dataclasses.asdict(conditions),
    }


@contextmanager
def _set(server: Serving | None, settings: Mapping[str, str]) -> Iterator[None]:
    """Settings of the whole server, put back afterwards."""
    if server is None or not settings:
        yield
        return
    before = {name: server.setting(name) for name in settings}
    server.set(settings)
    try:
        yield
    finally:
        server.set(before)
