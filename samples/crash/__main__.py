"""The command line of the crash sample: `python -m samples.crash --times 10`."""

from __future__ import annotations

import asyncio
import logging
import random
import sys
import tempfile
from pathlib import Path

import click

from samples.crash import round as rounds
from samples.crash import verdict


@click.command()
@click.option("--times", default=1, show_default=True, help="How many rounds, each with a kill.")
@click.option("--seed", default=None, type=int, help="Chooses the moments of the kills (default: by chance).")
@click.option("--worker", default=None, hidden=True, help="Be the worker process on this store.")
def main(times: int, seed: int | None, worker: str | None) -> None:
    """Kill a worker in the middle of its work, let the next one go on, and count what ran once and what ran twice."""
    if worker is not None:
        logging.getLogger("durable").setLevel(
            logging.ERROR
        )  # what it would warn of, the parent has warned of
        asyncio.run(rounds.work(worker))
        return
    seed = random.randrange(10**6) if seed is None else seed
    click.echo(
        f"{rounds.WORKFLOWS} workflows of {rounds.STEPS} steps on SQLite; {times} round(s), seed {seed}."
    )
    chance = random.Random(seed)
    bad = sum(_play(number, chance) for number in range(1, times + 1))
    click.echo(
        "Something is wrong, see above." if bad else "Nothing was lost, and nothing recorded was done again."
    )
    sys.exit(1 if bad else 0)


def _play(number: int, chance: random.Random) -> bool:
    """Play a round and tell of it; gives whether something is wrong."""
    with tempfile.TemporaryDirectory(prefix="durable-crash-") as folder:
        seen = asyncio.run(rounds.play(Path(folder), chance))
    total, twice = rounds.WORKFLOWS * rounds.STEPS, verdict.twice(seen)
    click.echo(
        f"\nRound {number}: kill -9 {seen.killed_pid} when {len(seen.recorded)} of {total} steps were recorded; "
        f"the next worker went on {seen.gap_seconds:.1f} s later"
    )
    click.echo(f"  workflows completed: {len(seen.results)} of {rounds.WORKFLOWS}, each once")
    click.echo(f"  steps run once:      {total - len(twice)}")
    click.echo(f"  steps run twice:     {len(twice)}, under way at the kill" + _names(twice))
    complaints = verdict.complaints(seen)
    for complaint in complaints:
        click.echo(f"  WRONG: {complaint}")
    return bool(complaints)


def _names(steps: rounds.Steps) -> str:
    return "".join(f"\n    {id} step {number}" for id, number in sorted(steps))


if __name__ == "__main__":
    main()
