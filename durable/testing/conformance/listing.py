"""Laws of looking around: filters, pages that stay stable while runs come and go, and counts."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from durable.backends.records import Filter, InstanceRef, InstanceView, Pause
from durable.testing.conformance.bench import Bench
from durable.testing.conformance.laws import Laws
from durable.testing.conformance.specimens import activity, continued, done, message, step


class ListingLaws(Laws):
    """`find` and `stats`."""

    async def find(self, bench: Bench, **fields: Any) -> list[InstanceView]:
        return list((await bench.store.find(Filter(**fields))).items)

    async def ids(self, bench: Bench, **fields: Any) -> list[str]:
        return sorted(view.instance_id for view in await self.find(bench, **fields))

    async def test_all_runs_are_listed_as_get_shows_them(self, bench: Bench) -> None:
        await bench.commit(continued(await bench.start("a", "r1", tags={"n": "1"}), "r2"))
        await bench.start("b")
        views = await self.find(bench)
        assert len(views) == 3
        for view in views:
            assert view == await bench.view(view.instance_id, view.run_id)

    async def test_each_field_of_the_filter_must_match(self, bench: Bench) -> None:
        await bench.waiting("a", status="packing")
        await bench.start("b", workflow="Refund", tags={"shop": "7", "vip": "yes"})
        await bench.start("c", tags={"shop": "7"})
        await bench.commit(done(await bench.start("d")))
        await bench.change(Pause(ref=InstanceRef(instance_id="c")))
        assert await self.ids(bench, workflow="Refund") == ["b"]
        assert await self.ids(bench, workflow="refund") == []
        assert await self.ids(bench, status=("packing", "sent")) == ["a"]
        assert await self.ids(bench, states=("paused", "completed")) == ["c", "d"]
        assert await self.ids(bench, tags={"shop": "7"}) == ["b", "c"]
        assert await self.ids(bench, tags={"shop": "7", "vip": "yes"}) == ["b"]
        assert await self.ids(bench, tags={"shop": "8"}) == []
        assert await self.ids(bench, tags={"shop": "7"}, states=("running",)) == ["b"]

    async def test_the_order_is_by_creation_and_run_id(self, bench: Bench) -> None:
        bench.under_test.needs_clock()
        await bench.start("x", "r3")
        await bench.start("y", "r1")
        await bench.advance(1)
        await bench.start("z", "r2")
        assert [view.run_id for view in await self.find(bench, newest_first=False)] == ["r1", "r3", "r2"]
        assert [view.run_id for view in await self.find(bench)] == ["r2", "r3", "r1"]

    async def test_created_after_is_exact(self, bench: Bench) -> None:
        clock = bench.under_test.needs_clock()
        await bench.start("a")
        created = clock.now_us
        await bench.advance(1)
        await bench.start("b")
        assert await self.ids(bench, created_after_us=created) == ["b"]
        assert await self.ids(bench, created_after_us=created - 1) == ["a", "b"]

    @pytest.mark.parametrize("newest_first", [True, False])
    async def test_pages_show_every_run_once_while_others_are_made(
        self, bench: Bench, newest_first: bool
    ) -> None:
        for n in range(17):
            await bench.start(f"i{n}", f"r{n:02}")
            await bench.advance(n % 3)
        seen: list[str] = []
        cursor = None
        for page in range(100):
            views = await self.find(bench, limit=4, cursor=cursor, newest_first=newest_first)
            if not views:
                break
            assert len(views) <= 4
            seen += [view.run_id for view in views]
            cursor = (views[-1].created_at_us, views[-1].run_id)
            if page < 10:
                await bench.advance(1)
                await bench.start(f"between{page}")
        old = [run_id for run_id in seen if run_id.startswith("r")]
        assert sorted(old) == [f"r{n:02}" for n in range(17)]
        assert len(seen) == len(set(seen))

    async def test_a_list_can_be_read_while_runs_are_written(self, bench: Bench) -> None:
        starts = [bench.start(f"i{n}") for n in range(20)]
        results = await asyncio.gather(*starts, *(bench.store.find(Filter()) for _ in range(5)))
        assert len(results) == 25
        assert len(await self.find(bench)) == 20

    async def test_counts_are_of_current_runs_tasks_and_events(self, bench: Bench) -> None:
        await bench.commit(continued(await bench.start("a"), "a-2"))
        await bench.commit(done(await bench.start("b")))
        at = await bench.waiting(
            "c", activities=(activity(1), activity(2, queue="gpu"), activity(3, queue="gpu"))
        )
        await bench.start("d", queue="gpu")
        stats = await bench.store.stats()
        assert {state: count for state, count in stats.instances.items() if count} == {
            "running": 3,
            "completed": 1,
        }
        assert {queue: count for queue, count in stats.activity_tasks.items() if count} == {
            "default": 1,
            "gpu": 2,
        }
        assert {queue: count for queue, count in stats.workflow_tasks.items() if count} == {
            "default": 1,
            "gpu": 1,
        }
        assert stats.outbox == 0
        await bench.send(message("c"))
        assert (await bench.store.stats()).workflow_tasks["default"] == 2
        await bench.commit(step(at, consumed=(1,), seen=1, withdrawn=(1,)))
        stats = await bench.store.stats()
        assert (stats.workflow_tasks["default"], stats.activity_tasks.get("default", 0)) == (1, 0)
