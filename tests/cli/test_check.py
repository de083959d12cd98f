"""``durable check`` says which instances of a store the present code could not go on with."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import durable
from durable.cli.main import main
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


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    found = f"sqlite:///{tmp_path_factory.mktemp('store')}/shop.db"
    asyncio.run(fill(found))
    return found


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
