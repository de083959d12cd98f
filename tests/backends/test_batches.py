"""What becomes of an item that is answered `Busy`: it waits, but neither for ever, nor for nobody, nor in silence."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

import pytest

from durable.backends import batches
from durable.backends.batches import Batches
from durable.backends.records import Accepted, Answer, Busy, InstanceRef, Verdict
from durable.errors import BackendError
from tests.worker.stores import until

HELD, FREE = InstanceRef(instance_id="held"), InstanceRef(instance_id="free")


class Rows:
    """Rows of which somebody holds one, until ``held`` is made false."""

    def __init__(self) -> None:
        self.held = True
        self.asked = 0

    async def __call__(self, refs: Sequence[InstanceRef]) -> Answer[Verdict]:
        self.asked += 1
        await asyncio.sleep(0)
        verdicts = [Busy() if self.held and ref is HELD else Accepted() for ref in refs]
        return Answer(now_us=1, items=verdicts)


@pytest.fixture
def rows(monkeypatch: pytest.MonkeyPatch) -> Rows:
    monkeypatch.setattr(batches, "BUSY_SECONDS", 0.0)
    return Rows()


async def test_what_is_held_is_had_later_and_holds_up_nobody(rows: Rows) -> None:
    sent: Batches[InstanceRef, Verdict] = Batches(rows, patience_seconds=3600)
    held = sent.submit(HELD)
    assert (await sent.submit(FREE))[0] == Accepted()
    assert not held.done()
    rows.held = False
    assert (await held)[0] == Accepted()
    await sent.idle()


async def test_what_is_held_for_too_long_fails_and_says_which(rows: Rows) -> None:
    sent: Batches[InstanceRef, Verdict] = Batches(rows, patience_seconds=0.001)
    with pytest.raises(BackendError, match="'held': another transaction holds the instance, for more than"):
        async with asyncio.timeout(10):
            await sent.submit(HELD)
    await sent.idle()


async def test_without_a_limit_it_is_told_from_time_to_time(
    rows: Rows, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(batches, "HELD_SECONDS", 0.0)
    sent: Batches[InstanceRef, Verdict] = Batches(rows)
    with caplog.at_level(logging.WARNING, "durable"):
        held = sent.submit(HELD)
        await until(lambda: rows.asked > 1_000, "a thousand tries")
    rows.held = False
    assert (await held)[0] == Accepted()
    told = [one for one in caplog.messages if "'held': another transaction holds" in one]
    assert 1 <= len(told) < 50


async def test_the_rests_between_the_tries_grow_and_end_with_news(
    rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "BUSY_SECONDS", 0.001)
    monkeypatch.setattr(batches, "BUSY_MOST_SECONDS", 3600.0)
    sent: Batches[InstanceRef, Verdict] = Batches(rows)
    held = sent.submit(HELD)
    await until(lambda: sent._busy_seconds > 0.1, "some tries")
    assert rows.asked < 20
    sent._busy_seconds, before = 3600.0, rows.asked
    await until(lambda: rows.asked > before, "the try before a long rest")
    for _ in range(10):
        await asyncio.sleep(0)
    rows.held = False
    async with asyncio.timeout(10):
        assert (await sent.submit(FREE))[0] == Accepted()
        assert (await held)[0] == Accepted()
        await sent.idle()
    assert not sent._busy


async def test_nobody_waits_for_what_nobody_wants_any_more(rows: Rows) -> None:
    sent: Batches[InstanceRef, Verdict] = Batches(rows, patience_seconds=3600)
    held = sent.submit(HELD)
    await until(lambda: rows.asked > 3, "some tries")
    held.cancel()
    async with asyncio.timeout(10):
        await sent.idle()
