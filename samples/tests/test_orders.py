"""The orders: each way through the workflow, the command line, and a person's kill -9."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner

import durable
from samples.orders import demo
from samples.orders.__main__ import main
from samples.orders.model import Approval, Order, Outcome, Step
from samples.orders.outside import Outside
from samples.orders.workflow import approval, definitions, process_order

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture
def outside(tmp_path: Path) -> Outside:
    return Outside(tmp_path / "outside.db", pace_seconds=0.0)


async def _outcome(outside: Outside, order: Order, *signals: Approval) -> Outcome:
    async with durable.connect("memory://") as client, durable.Worker(client, definitions(outside)):
        instance = await client.create_instance(process_order, order, id=order.id)
        for value in signals:
            await instance.signal(approval, value)
        return await instance.result(timeout=30)


def _done(outside: Outside) -> list[str]:
    return [re.sub(r"-.*", "", what) for what, _ in outside.ledger()]


async def test_an_ordinary_order_is_charged_and_shipped(outside: Outside) -> None:
    found = await _outcome(outside, Order(id="o", item="book", cents=1_200))
    assert found == Outcome(step=Step.DELIVERED, message="book is on its way: parcel-o")
    assert _done(outside) == ["receipt", "parcel"]


async def test_an_order_that_makes_no_sense_is_turned_down(outside: Outside) -> None:
    found = await _outcome(outside, Order(id="o", item="book", cents=0))
    assert (found.step, _done(outside)) == (Step.INVALID, [])


async def test_a_provider_that_does_not_answer_is_asked_again(outside: Outside) -> None:
    found = await _outcome(outside, Order(id="o", item="book", cents=1_200, card="flaky"))
    assert (found.step, _done(outside)) == (Step.DELIVERED, ["receipt", "parcel"])


async def test_a_declined_card_is_not_tried_again(outside: Outside) -> None:
    found = await _outcome(outside, Order(id="o", item="book", cents=1_200, card="empty"))
    assert found == Outcome(step=Step.DECLINED, message="nothing was charged: the bank refused the card")
    assert _done(outside) == []


async def test_what_cannot_be_fulfilled_is_refunded(outside: Outside) -> None:
    found = await _outcome(outside, Order(id="o", item="unicorn", cents=1_200))
    assert found.step is Step.REFUNDED
    assert _done(outside) == ["receipt", "refund of receipt"]


async def test_a_large_order_goes_on_when_somebody_approves_it(outside: Outside) -> None:
    found = await _outcome(outside, Order(id="o", item="piano", cents=50_000), Approval(by="ann"))
    assert (found.step, _done(outside)) == (Step.DELIVERED, ["receipt", "parcel"])


async def test_a_large_order_ends_when_somebody_refuses_it(outside: Outside) -> None:
    found = await _outcome(
        outside, Order(id="o", item="piano", cents=50_000), Approval(by="ann", approved=False)
    )
    assert found == Outcome(step=Step.REFUSED, message="ann said no")
    assert _done(outside) == []


async def test_a_large_order_expires_when_nobody_answers(outside: Outside) -> None:
    found = await _outcome(outside, Order(id="o", item="piano", cents=50_000, approve_within_seconds=0.05))
    assert (found.step, _done(outside)) == (Step.EXPIRED, [])


async def test_the_demo_goes_through_every_way(outside: Outside, tmp_path: Path) -> None:
    outcomes = await demo.run(f"sqlite:///{tmp_path / 'orders.db'}", outside)
    assert [outcome.step for outcome in outcomes.values()] == [
        Step.DELIVERED,
        Step.DELIVERED,
        Step.DECLINED,
        Step.REFUNDED,
        Step.DELIVERED,
        Step.EXPIRED,
    ]


def _call(db: Path, *arguments: str) -> str:
    ran = CliRunner().invoke(main, ["--db", str(db), *arguments])
    return f"{ran.exit_code}: {ran.output}"


def test_the_command_line_says_in_a_line_what_is_wrong(tmp_path: Path) -> None:
    db = tmp_path / "orders.db"
    assert re.match(r"1: Error: .*'nobody'.* does not exist\n$", _call(db, "show", "nobody"))
    assert re.match(r"1: Error: .*'nobody'", _call(db, "approve", "nobody"))
    assert _call(db, "order", "ann").startswith("0: Ordered.")
    assert re.match(r"1: Error: .*'ann' exists already", _call(db, "order", "ann"))


def test_an_order_survives_a_person_who_kills_the_worker(tmp_path: Path) -> None:
    db = tmp_path / "orders.db"
    assert _call(db, "order", "ann", "--cents", "60000").startswith("0: ")
    assert "waits for its first worker" in _call(db, "show", "ann")
    with _served(db) as worker:
        _until_shown(db, "waiting for approval")
        worker.kill()
        worker.wait()
    assert _call(db, "approve", "ann").startswith("0: Approved")
    with _served(db) as worker:
        _until_shown(db, "ann: completed, delivered")
        worker.send_signal(signal.SIGTERM)
        output, _ = worker.communicate(timeout=30)
    assert worker.returncode == 0
    assert "charge 600.00" in output
    assert "validate" not in output, "validated by the worker that was killed: not again"
    assert "Drained and gone." in output
    assert "receipt = receipt-ann-60000" in _call(db, "show", "ann")


@contextmanager
def _served(db: Path) -> Iterator[subprocess.Popen[str]]:
    command = [
        sys.executable,
        "-m",
        "samples.orders",
        "--db",
        str(db),
        "serve",
        "--pace",
        "0.01",
        "--lease",
        "1",
    ]
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as worker:
        try:
            yield worker
        finally:
            worker.kill()


def _until_shown(db: Path, words: str) -> None:
    deadline = time.monotonic() + 30
    while words not in (shown := _call(db, "show", "ann")):
        assert time.monotonic() < deadline, shown
        time.sleep(0.05)  # another process gets there; it is asked as a person would ask it
