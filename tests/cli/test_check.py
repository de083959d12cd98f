"""``durable check`` says which instances of a store the present code could not go on with."""

from __future__ import annotations

import asyncio
import gc
import re
import subprocess
import sys
import tracemalloc
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import durable
from durable.cli.definitions import workflows_of
from durable.cli.main import main
from durable.cli.reading import reader
from durable.testing import checker
from tests.cli import shop_after, shop_before

BEFORE, AFTER = "tests.cli.shop_before", "tests.cli.shop_after"


async def fill(url: str) -> None:
    """Finished instances, and open ones that wait for a timer."""
    async with durable.connect(url) as client, durable.Worker(client, [shop_before]):
        for name in ("o-1", "o-2"):
            await client.create_instance(shop_before.order, name, id=name)
        done = [await client.create_instance(shop_before.quick, f"q-{n}", id=f"q-{n}") for n in range(5)]
        await client.create_instance(shop_before.priced, "p", id="p")
        await client.create_instance(shop_before.elsewhere, id="e")
        await asyncio.gather(*done)
        for name, events in (("o-1", 4), ("o-2", 4), ("p", 2), ("e", 2)):
            while len(await client.get_instance(name).history()) < events:  # noqa: ASYNC110 - no event tells
                await asyncio.sleep(0.01)


@pytest.fixture(scope="module", params=["sqlite", "postgres", "mysql"])
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of an empty store."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path_factory.mktemp('store')}/shop.db"
        return
    database = request.getfixturevalue(f"{request.param}_server").database()
    with asyncio.Runner() as runner:
        yield runner.run(database.__aenter__())
        runner.run(database.__aexit__(None, None, None))


@pytest.fixture(scope="module")
def url(store: str) -> str:
    asyncio.run(fill(store))
    return store


@pytest.fixture(params=["sqlite", "postgres", "mysql"])
async def empty(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[str]:
    """The URL of a store of the test's own."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/shop.db"
        return
    async with request.getfixturevalue(f"{request.param}_server").database() as url:
        yield url


def check(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["check", *arguments])


def test_code_that_fits_passes(url: str) -> None:
    result = check(BEFORE, "--url", url)
    assert result.output == (
        "4 open and 5 closed instances: 9 agree, 0 diverge, 0 have a version that is not here\n"
    )
    assert result.exit_code == 0


def test_instances_that_would_diverge_are_named_with_place_and_report(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("durable.testing.checker.STEP_SECONDS", 0.2)
    result = check(AFTER, "--url", url)
    assert result.exit_code == 1
    line = shop_after.order.definition.fn.__code__.co_firstlineno + 2
    for name in ("o-1", "o-2"):
        assert (
            f"diverges: {name} (running, workflow 'order', event 2) at {shop_after.__file__}:{line}"
            in result.output
        )
    assert "    history: activity_scheduled 'charge' (command 1) with args=[\"o-1\"]" in result.output
    assert "    code   : activity_scheduled 'weigh' (command 1)" in result.output
    assert "no version: p (running, workflow 'priced' version '1')" in result.output
    assert (
        "diverges: e (running, workflow 'elsewhere')\n    TimeoutError: a step of the workflow"
        in result.output
    )
    assert result.output.endswith(
        "4 open and 5 closed instances: 5 agree, 3 diverge, 1 have a version that is not here\n"
    )


def test_a_single_workflow_can_be_named_and_the_others_are_strangers(url: str) -> None:
    result = check(f"{AFTER}:quick", "--url", url)
    assert result.exit_code == 0
    assert "5 agree" in result.output
    assert "not checked: 2 of workflow 'order'" in result.output


@pytest.mark.parametrize("closed", [0, 3])
def test_the_sample_of_the_closed_is_as_large_as_asked(url: str, closed: int) -> None:
    assert f"4 open and {closed} closed" in check(BEFORE, "--url", url, "--closed", str(closed)).output


def test_open_instances_are_read_page_by_page(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("durable.testing.checker._PAGE", 1)
    assert "4 open and 5 closed instances: 9 agree" in check(BEFORE, "--url", url).output


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["tests.cli.no_such"], "cannot be imported"),
        (["tests.cli"], "holds no workflow"),
        ([f"{BEFORE}:charge"], "no function decorated with @durable.workflow"),
        ([BEFORE, AFTER], "two workflows are called 'order'"),
        ([BEFORE, "--url", "nonsense"], "is no store's URL"),
        ([BEFORE, "--codec", "nonsense"], "names nothing"),
        ([], "Missing argument"),
    ],
)
def test_mistakes_are_told_apart_from_divergences(arguments: list[str], words: str) -> None:
    result = check(*arguments)
    assert result.exit_code == 2
    assert words in re.sub(r"\s+", " ", result.output)


def test_a_store_that_does_not_exist_is_a_mistake_and_is_not_made(tmp_path: Path) -> None:
    result = check(BEFORE, "--url", f"sqlite:///{tmp_path}/none.db")
    assert result.exit_code == 2
    assert "no such file" in re.sub(r"\s+", " ", result.output)
    assert list(tmp_path.iterdir()) == []


async def _peak_bytes(url: str) -> tuple[int, int]:
    """How many were checked, and how much memory that took at most."""
    seen = 0
    async with reader(url, None) as client:
        gc.collect()
        tracemalloc.start()
        try:
            async for found in checker.check(client, workflows_of([BEFORE]), closed=10):
                assert found.verdict == "agrees", found
                seen += 1
            return seen, tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()


async def test_a_large_store_takes_no_more_memory_than_a_small_one(
    empty: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checker, "_PAGE", 20)
    text = "x" * 10_000
    async with durable.connect(empty) as client:
        for number, size in ((1, 40), (2, 160)):
            made = (client.create_instance(shop_before.order, text, id=f"{number}-{n}") for n in range(size))
            await asyncio.gather(*made)
            if number == 1:
                await _peak_bytes(empty)  # what is loaded on first use is not counted
                small, small_bytes = await _peak_bytes(empty)
    large, large_bytes = await _peak_bytes(empty)
    assert (small, large) == (40, 200)
    assert large_bytes < 1.5 * small_bytes + 200_000, f"{small_bytes} bytes for 40, {large_bytes} for 200"


async def test_instances_that_go_on_while_they_are_read_do_not_diverge(empty: str) -> None:
    """What is read of an instance is one moment of it, or the check cries wolf."""
    open_ones = 0
    async with (
        durable.connect(empty) as client,
        durable.Worker(client, [shop_before], max_activities=4),
        reader(empty, None) as looking,
    ):
        made = (client.create_instance(shop_before.quick, f"q-{n}", id=f"q-{n}") for n in range(300))
        working = [asyncio.ensure_future(one.result(timeout=60)) for one in await asyncio.gather(*made)]
        while not all(one.done() for one in working):
            async for found in checker.check(looking, workflows_of([BEFORE]), closed=50):
                assert found.verdict == "agrees", found
                open_ones += found.is_open
                await asyncio.sleep(0)
        await asyncio.gather(*working)
    assert open_ones > 0, "all was over when it was looked at"


class Reversed:
    """A codec, for the test."""

    def encode(self, text: str) -> str:
        return text[::-1]

    def decode(self, text: str) -> str:
        return text[::-1]


REVERSED = Reversed()


def test_the_codec_of_the_payloads_is_used(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/sealed.db"

    async def sealed() -> None:
        async with durable.connect(url, codec=REVERSED) as client, durable.Worker(client, [shop_before]):
            await (await client.create_instance(shop_before.quick, "name", id="q"))

    asyncio.run(sealed())
    assert check(BEFORE, "--url", url, "--codec", "tests.cli.test_check:REVERSED").exit_code == 0
    assert "PayloadError" in check(BEFORE, "--url", url).output


def test_it_is_a_program(url: str) -> None:
    command = [sys.executable, "-W", "error", "-m", "durable.cli", "check", f"{AFTER}:order", "--url", url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1, done.stderr
    assert "2 diverge" in done.stdout
    assert "Traceback" not in done.stderr
