"""The transactions: what is promised of each order, twice on one file, and the command line."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from durable.testing import servers
from samples.transactions import demo

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture(params=["sqlite", "postgres", "mysql"])
async def url(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'shop.db'}"
        return
    try:
        async with servers.private(request.param) as server, server.database() as url:
            yield url
    except servers.Unavailable as missing:
        if servers.required(request.param):
            raise
        pytest.skip(str(missing))


async def test_rows_and_workflows_come_together_and_money_is_booked_once(url: str) -> None:
    for new in (True, False):
        ann, bob, eve = await demo.run(url, new=new)
        assert (ann.row, ann.workflow, ann.booked_cents, ann.paid) == (
            True,
            "booked in attempt 1",
            (1_200,),
            True,
        )
        assert (bob.row, bob.workflow, bob.booked_cents, bob.paid) == (
            True,
            "booked in attempt 3",
            (4_900,),
            True,
        )
        assert (eve.row, eve.workflow, eve.booked_cents, eve.paid) == (False, None, (), False)


def test_the_command_line_tells_what_came_of_each(tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-m", "samples.transactions", "--db", str(tmp_path / "shop.db")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stderr == ""
    assert re.sub(r"-[0-9a-f]{4}:", ":", ran.stdout).splitlines() == [
        "ann: booked in attempt 1; bookings in the table: 12.00",
        "bob: booked in attempt 3; bookings in the table: 49.00",
        "eve: rolled back: neither an order row nor a workflow",
    ]
