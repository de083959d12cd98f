"""Damage done to the memory store's tables by hand is found by name, and mended if it can be."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import replace

import pytest

from durable.backends.contract import Backend
from durable.backends.memory import MemoryStore, open_store
from durable.backends.memory.tables import Tables
from durable.backends.records import InstanceRef, Parent, Question
from durable.testing.conformance import ManualClock, StoreUnderTest
from durable.testing.conformance.bench import Bench
from durable.testing.conformance.clock import HOUR
from durable.testing.conformance.specimens import activity, done, message


class Memory(StoreUnderTest):
    def __init__(self) -> None:
        self.clock = ManualClock()

    async def open(self) -> Backend:
        return await open_store("memory://", clock=self.clock)


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    memory = Memory()
    bench = Bench(await memory.open(), memory)
    yield bench
    await bench.store.close()


def behead(tables: Tables) -> None:
    run = tables.instances["a"].current
    run.head = replace(run.head, number=run.head.number + 1)


KINDS: dict[str, tuple[Callable[[Tables], object], str, bool]] = {
    "deadline forgotten": (lambda t: t.overdue.put(("a", "a-1"), None), "I7", True),
    "deadline too early": (lambda t: t.overdue.put(("a", "a-1"), 1), "I16", True),
    "activity astray": (lambda t: t.activities.clear(), "I7", True),
    "key forgotten": (lambda t: t.instances["a"].keys.clear(), "I14", True),
    "message for another run": (lambda t: setattr(t.instances["a"].inbox[1], "run_id", "r0"), "I8", True),
    "closing missing": (lambda t: t.closings.put(("p", "p-1"), None), "I7", True),
    "closing of an open run": (lambda t: t.closings.put(("a", "a-1"), 1), "I8", True),
    "question not asked": (lambda t: t.unanswered.clear(), "I7", True),
    "question answered": (lambda t: setattr(next(iter(t.questions.values())), "reply", "1"), "I8", True),
    "head ahead": (behead, "I2", False),
}


@pytest.mark.parametrize("kind", KINDS)
async def test_damage_is_found_and_mended(bench: Bench, kind: str) -> None:
    parent = await bench.start("p")
    of_p = Parent(instance_id="p", run_id="p-1", number=1, close="terminate")
    await bench.start("kid", parent=of_p)
    await bench.commit(done(parent))
    await bench.start("a", timeout_us=HOUR)
    of_a = Parent(instance_id="a", run_id="a-1", number=1, close="terminate")
    await bench.start("kid-of-a", parent=of_a)
    await bench.waiting("b", activities=(activity(1),))
    await bench.send(message("a", "k"))
    question = Question(id="q", ref=InstanceRef(instance_id="a"), name="n", body="[]", timeout_us=HOUR)
    await bench.store.ask([question])
    assert (await bench.store.audit()).items == []
    assert isinstance(bench.store, MemoryStore)
    damage, rule, mended = KINDS[kind]
    damage(bench.store._tables)
    for repair in (False, True):
        (found,) = (await bench.store.audit(repair=repair)).items
        assert (found.rule.split()[0], found.repairable, found.repaired) == (rule, mended, mended and repair)
    assert ((await bench.store.audit()).items == []) == mended
