"""Two releases of the engine on one store, worker by worker, forwards and back: nothing is lost or done twice."""

from __future__ import annotations

import asyncio
import json
import random
import sys
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

import pytest

import durable
from tests.processes import verdict
from tests.processes.conftest import SEEDS
from tests.processes.crew import Crew
from tests.processes.programs import Program, draw, go
from tests.processes.releases import next_release

LEFT_ALONE = "A worker of a newer release is needed"
PATIENCE_SECONDS = 60.0


@pytest.fixture(scope="module")
def newer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return next_release.make(tmp_path_factory.mktemp("next_release"))


def drawn(chance: random.Random, phase: str, count: int) -> dict[str, Program]:
    """Programs that stop in the middle, until somebody signals."""
    return {f"{phase}{number}": [*draw(chance), ["wait"], *draw(chance)] for number in range(count)}


async def ask_by(
    release: Path, url: str, *, create: Mapping[str, Program] | None = None, signal: Iterable[str] = ()
) -> None:
    """A client of that release creates and signals."""
    asked = json.dumps({"create": create or {}, "signal": list(signal)})
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.processes.releases.ask", url, asked, cwd=release,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    said, _ = await process.communicate()
    assert process.returncode == 0, said.decode()
    assert not said.decode().endswith("release " + durable.__version__)


async def signal(client: durable.Client, names: Iterable[str]) -> None:
    for name in names:
        await client.get_instance(name).signal(go, None)


async def waiting(client: durable.Client, names: Collection[str], states: Collection[str]) -> None:
    """Until each is in one of the states, and does nothing any more."""
    before: dict[str, str] = {}
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            found = {name: await client.get_instance(name).describe() for name in names}
            now = {name: f"{one.state} {one.history_length}" for name, one in found.items()}
            if now == before and all(one.state in states for one in found.values()):
                return
            before = now
            await asyncio.sleep(0.2)  # what other processes do: there is nothing else to wait on


@pytest.mark.parametrize("seed", SEEDS)
async def test_a_rolling_upgrade_of_the_engine_and_back(
    url: str, tmp_path: Path, newer: Path, seed: int
) -> None:
    chance = random.Random(seed)
    early, middle, late = (drawn(chance, phase, 40) for phase in ("early", "middle", "late"))
    async with durable.connect(url) as client, Crew(url, tmp_path, max_activities=10) as crew:
        # The old release alone.
        old = await crew.start(2)
        await verdict.create(client, early)
        await crew.lines(60)

        # Both. The first new worker migrates the schema under load; more old ones start on what it has made.
        new = await crew.start(release=newer)
        await crew.drain(old[0])
        old[0] = (await crew.start())[0]
        before = crew.tally.look()
        await verdict.create(client, middle)  # at least two lines each
        await signal(client, list(early)[:15])
        await crew.lines(before + 60)

        # The new release alone, with clients of its own.
        new += await crew.start(release=newer)
        for hand in old:
            await crew.drain(hand)
        new += await crew.start(release=newer)
        await ask_by(newer, url, create=late, signal=[*list(early)[15:25], *list(middle)[:20]])
        await verdict.results(client, list(early)[:25])

        # Back: old workers go on with what is theirs, and leave alone what is not.
        await waiting(client, list(late), ["running"])
        old = await crew.start(2)
        for hand in new:
            await crew.drain(hand)
        again, strange = drawn(chance, "again", 20), drawn(chance, "strange", 20)
        await verdict.create(client, again)
        await signal(client, again)
        await ask_by(newer, url, create=strange)
        await signal(client, list(late)[:20])
        await verdict.results(client, list(again))
        await waiting(client, [*strange, *list(late)[:20]], ["stalled"])
        await left_alone(client, strange)
        assert await client.audit(repair=True) == []
        kept = {name: await client.export_history(name) for name in [*strange, *late]}

        # And forwards again: what was left alone goes on where it was.
        new = await crew.start(2, release=newer)
        for hand in old:
            await crew.drain(hand)
        new += await crew.start(release=newer)
        await signal(client, [*list(early)[25:], *list(middle)[20:], *list(late)[20:], *strange])
        everything = early | middle | late | again | strange
        figures = await verdict.hold(client, crew, everything, expected=LEFT_ALONE)
        assert figures["called again"] == 0
        for name, events in kept.items():
            assert _events(await client.export_history(name))[: len(_events(events))] == _events(events), name
        for hand in new:
            await crew.drain(hand)


def _events(history: str) -> list[str]:
    return history.splitlines()[1:]


async def left_alone(client: durable.Client, names: Iterable[str]) -> None:
    """Not one event was written behind the first, and whoever looks is told why."""
    for name in names:
        found = await client.get_instance(name).describe()
        assert found.history_length == 1, name
        assert found.problem is not None
        assert LEFT_ALONE in found.problem.message


@pytest.mark.parametrize("seed", SEEDS)
async def test_both_releases_work_side_by_side(url: str, tmp_path: Path, newer: Path, seed: int) -> None:
    """What the old one cannot go on with, the new one takes up soon, and all ends while both are at work."""
    chance = random.Random(seed)
    programs = {f"w{number}": draw(chance) for number in range(60)}
    strange = {f"s{number}": draw(chance) for number in range(20)}
    async with durable.connect(url) as client, Crew(url, tmp_path, max_activities=10) as crew:
        await crew.start()
        await crew.start(release=newer)
        await verdict.create(client, programs)
        await ask_by(newer, url, create=strange)
        figures = await verdict.hold(client, crew, programs | strange, expected=LEFT_ALONE)
        assert figures["called again"] == 0
        assert any(LEFT_ALONE in hand.said() for hand in crew.hands), "they never met"


async def test_a_migration_that_old_releases_cannot_share_keeps_them_out(url: str, tmp_path: Path) -> None:
    newer = next_release.make(tmp_path / "newer", oldest_schema=2)
    async with durable.connect(url) as client:
        await client.create_instance("anything")
    await ask_by(newer, url)
    with pytest.raises(
        durable.BackendError, match=r"has schema 2, and this release knows 1 at most; use a newer"
    ):
        async with durable.connect(url):
            pass
