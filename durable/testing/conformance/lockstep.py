"""Two stores with one clock, asked the same: the memory store as the oracle, and the store that is judged.

Ids, keys and tokens come from the caller, so answers must be equal, but for what the contract leaves open: the order of
those that became ready in the same microsecond, and the wording of what is said to people.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

from durable.backends.contract import Backend
from durable.backends.memory import open_store
from durable.backends.records import Answer, Closing, InstanceRef, InstanceView, Refused
from durable.testing.conformance.bench import Bench
from durable.testing.conformance.harness import StoreUnderTest

UNORDERED = frozenset(
    {
        "claim_workflow_tasks",
        "claim_stalled_tasks",
        "claim_activity_tasks",
        "claim_questions",
        "children",
        "purge",
    }
)


class LockStep:
    """Asks both, and compares."""

    def __init__(self, judged: Bench, oracle: Bench) -> None:
        self.judged = judged
        self.oracle = oracle
        self.last: tuple[str, tuple[Any, ...]] = ("create", ([],))

    @classmethod
    async def open(cls, under_test: StoreUnderTest) -> LockStep:
        """Both stores, empty."""
        clock = under_test.needs_clock()
        oracle: Backend = await open_store("memory://", clock=clock)
        judged = await under_test.open()
        await judged.migrate()
        await oracle.migrate()
        return cls(Bench(judged, under_test), Bench(oracle, under_test))

    async def call(self, name: str, *args: Any) -> Any:
        """Call a method of the contract on both; the answer of the store that is judged."""
        self.last = (name, args)
        judged = await getattr(self.judged.store, name)(*args)
        oracle = await getattr(self.oracle.store, name)(*args)
        assert comparable(name, judged) == comparable(name, oracle), f"{name}{args} is answered in two ways"
        return judged

    async def compare_all(self) -> None:
        """All that can be seen of the two stores is the same, and nothing is broken."""
        judged, oracle = await self.judged.snapshot(), await self.oracle.snapshot()
        assert [view.run_id for view in judged.views] == [view.run_id for view in oracle.views]
        for one, other in zip(judged.views, oracle.views, strict=True):
            assert differing(plain(one), plain(other)) == {}, f"run {one.run_id}: judged, oracle"
        assert judged.histories == oracle.histories
        assert judged.stats == oracle.stats
        await self.call("holdings", [ref_of(view) for view in oracle.views])
        for instance_id in {view.instance_id for view in oracle.views}:
            await self.call("children", InstanceRef(instance_id=instance_id), 1_000)
        assert await self.judged.broken() == []
        assert await self.oracle.broken() == []

    async def close(self) -> None:
        await self.judged.store.close()
        await self.oracle.store.close()


def ref_of(view: InstanceView) -> InstanceRef:
    """This very run."""
    return InstanceRef(instance_id=view.instance_id, run_id=view.run_id)


def differing(one: Any, other: Any) -> dict[str, tuple[Any, Any]]:
    """The fields of two records of a kind that are not the same."""
    pairs = {field.name: (getattr(one, field.name), getattr(other, field.name)) for field in fields(one)}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def comparable(name: str, answer: Any) -> Any:
    """An answer without what the contract leaves open."""
    if not isinstance(answer, Answer):
        return answer
    items: Sequence[Any] = [plain(item) for item in answer.items]
    if name == "claim_outbox":  # in order per run, which is what stands before the slash
        items = sorted(items, key=lambda event: event.id.rpartition("/")[0])
    if name in UNORDERED:
        items = sorted(items, key=repr)
    return answer.now_us, answer.next_wake_us, items


def plain(item: Any) -> Any:
    """An item without the words that a store chose itself."""
    if isinstance(item, Refused):
        return Refused
    if isinstance(item, Closing):
        return replace(item, children=tuple(sorted(item.children, key=repr)))
    if isinstance(item, InstanceView) and item.problem is not None:
        return replace(item, problem=replace(item.problem, report=""))
    return item
