"""``durable check``: a gate for deployments. Would this code go on with what a live store holds?"""

from __future__ import annotations

import asyncio
import sys
import textwrap
from collections import Counter

import click

from durable.cli.definitions import Workflows, named, workflows_of
from durable.cli.reading import reader
from durable.core.payload import Codec
from durable.errors import BackendError
from durable.testing.checker import Checked
from durable.testing.checker import check as checked_instances


@click.command()
@click.argument("definitions", nargs=-1, required=True, metavar="MODULE[:WORKFLOW]...")
@click.option(
    "--url", envvar="DURABLE_URL", help="The store. Default: DURABLE_URL, else sqlite:///./durable.db."
)
@click.option(
    "--closed", default=100, show_default=True, help="How many of the newest ended instances to try, too."
)
@click.option(
    "--codec", "codec_name", metavar="MODULE:NAME", help="The codec that payloads were written with."
)
def check(definitions: tuple[str, ...], url: str | None, closed: int, codec_name: str | None) -> None:
    """Replay the instances of a live store against the present code.

    Every open instance is replayed, and a sample of those that have ended. Nothing is written. The exit code is 1 when
    an instance would diverge, or has a version that this code lacks; instances of workflows that are not in the given
    modules are counted only.
    """
    codec = named(codec_name) if codec_name else None
    workflows = workflows_of(definitions)
    try:
        harmful = asyncio.run(_run(workflows, url, closed, codec))
    except (BackendError, ValueError) as error:
        raise click.UsageError(str(error)) from error
    sys.exit(1 if harmful else 0)


async def _run(workflows: Workflows, url: str | None, closed: int, codec: Codec | None) -> int:
    counts: Counter[tuple[bool, str]] = Counter()
    strangers: Counter[str] = Counter()
    async with reader(url, codec) as client:
        async for found in checked_instances(client, workflows, closed=closed, codec=codec):
            counts[found.is_open, found.verdict] += 1
            if found.verdict == "no code":
                strangers[found.workflow] += 1
            elif found.verdict != "agrees":
                click.echo(_told(found))
    return _summed(counts, strangers)


def _told(found: Checked) -> str:
    place = f" at {found.file}:{found.line}" if found.file else ""
    event = f", event {found.event}" if found.event else ""
    version = f" version {found.version!r}" if found.version else ""
    head = f"{found.instance_id} ({found.state}, workflow {found.workflow!r}{version}{event}){place}"
    return f"{click.style(found.verdict, fg='red')}: {head}\n{textwrap.indent(found.report, '    ')}\n"


def _summed(counts: Counter[tuple[bool, str]], strangers: Counter[str]) -> int:
    """Say how it went; how many instances stand against a deployment."""
    number = {
        is_open: sum(n for (each, _), n in counts.items() if each is is_open) for is_open in (True, False)
    }
    bad = Counter(dict.fromkeys(("diverges", "no version"), 0))
    for (_, verdict), n in counts.items():
        if verdict in bad:
            bad[verdict] += n
    click.echo(
        f"{number[True]} open and {number[False]} closed instances: {counts[True, 'agrees'] + counts[False, 'agrees']} "
        f"agree, {bad['diverges']} diverge, {bad['no version']} have a version that is not here"
    )
    for workflow, n in sorted(strangers.items()):
        click.echo(f"not checked: {n} of workflow {workflow!r}, which is not in the given modules")
    return bad.total()
