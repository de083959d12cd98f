"""Laws of the outbox: an event goes out if and only if its checkpoint was accepted, in order per run (I25)."""

from __future__ import annotations

from collections.abc import Sequence

from durable.backends.records import Accepted, InstanceRef, OutboxEvent
from durable.testing.conformance.bench import Bench
from durable.testing.conformance.laws import Laws
from durable.testing.conformance.specimens import continued, done, step


def event(event_id: str) -> OutboxEvent:
    """An event for the outside world."""
    return OutboxEvent(id=event_id, topic="orders", payload='"x"', key="k")


class OutboxLaws(Laws):
    """`Checkpoint.outbox`, `claim_outbox` and `finish_outbox`."""

    async def claimed(self, bench: Bench, worker_id: str = "relay", limit: int = 100) -> list[str]:
        events = (await bench.store.claim_outbox(bench.claimant(worker_id), limit)).items
        return [each.id for each in events]

    async def published(self, bench: Bench, ids: Sequence[str]) -> Sequence[Accepted]:
        return (await bench.store.finish_outbox(ids)).items

    async def test_an_event_is_handed_out_as_it_was_written(self, bench: Bench) -> None:
        asked = OutboxEvent(id="a-1/1", topic="orders", payload='"\x00"', key="k", headers={"h": "1"})
        bare = OutboxEvent(id="a-1/2", topic="orders", payload="")
        await bench.waiting("a", outbox=(asked, bare))
        items = (await bench.store.claim_outbox(bench.claimant(), 10)).items
        assert list(items) == [asked, bare]

    async def test_events_go_out_exactly_when_their_checkpoint_was_accepted(self, bench: Bench) -> None:
        at = await bench.start("a")
        await bench.commit(step(at, outbox=(event("a-1/1"),)))
        await bench.commit(step(at, outbox=(event("a-1/late"),)))
        assert await self.claimed(bench) == ["a-1/1"]

    async def test_a_repeated_checkpoint_publishes_once(self, bench: Bench) -> None:
        checkpoint = step(await bench.start("a"), outbox=(event("a-1/1"),))
        await bench.commit(checkpoint)
        await bench.commit(checkpoint)
        assert await self.claimed(bench) == ["a-1/1"]
        await self.published(bench, ["a-1/1"])
        await bench.commit(checkpoint)
        await bench.outlive_lease()
        assert await self.claimed(bench) == []

    async def test_published_events_are_gone_and_others_come_back(self, bench: Bench) -> None:
        await bench.waiting("a", outbox=(event("a-1/1"), event("a-1/2")))
        assert await self.claimed(bench) == ["a-1/1", "a-1/2"]
        assert (await bench.store.stats()).outbox == 2
        assert await self.published(bench, ["a-1/1", "a-1/1", "unknown"]) == [Accepted()] * 3
        await bench.outlive_lease()
        assert await self.claimed(bench, "relay 2") == ["a-1/2"]

    async def test_events_are_leased(self, bench: Bench) -> None:
        await bench.waiting("a", outbox=(event("a-1/1"),))
        assert await self.claimed(bench, "relay 1") == ["a-1/1"]
        assert await self.claimed(bench, "relay 2") == []

    async def test_the_events_of_a_run_go_out_in_the_order_of_its_history(self, bench: Bench) -> None:
        at = await bench.waiting("a", outbox=(event("a-1/9"), event("a-1/10")))
        await bench.commit(step(at, outbox=(event("a-1/1"),)))
        assert await self.claimed(bench) == ["a-1/9", "a-1/10", "a-1/1"]

    async def test_a_later_event_does_not_overtake_one_that_another_relay_holds(self, bench: Bench) -> None:
        await bench.waiting("a", outbox=(event("a-1/1"), event("a-1/2")))
        assert await self.claimed(bench, "relay 1", limit=1) == ["a-1/1"]
        assert await self.claimed(bench, "relay 2") == []
        await self.published(bench, ["a-1/1"])
        assert await self.claimed(bench, "relay 2") == ["a-1/2"]

    async def test_an_event_with_a_small_id_that_comes_late_is_not_skipped(self, bench: Bench) -> None:
        """A cursor at the greatest id seen would leave it behind."""
        await bench.waiting("z", outbox=(event("z-1/9"),))
        await self.published(bench, await self.claimed(bench))
        await bench.waiting("a", outbox=(event("a-1/1"),))
        assert await self.claimed(bench) == ["a-1/1"]

    async def test_events_of_a_forgotten_run_still_go_out_and_its_id_can_write_more(
        self, bench: Bench
    ) -> None:
        await bench.commit(done(await bench.start("a", "r1"), outbox=(event("r1/1"),)))
        await bench.store.delete([InstanceRef(instance_id="a")])
        await bench.waiting("a", "r1", outbox=(event("r1/2"),))
        assert await self.claimed(bench) == ["r1/1", "r1/2"]

    async def test_a_claim_repeated_with_its_token_gets_the_same_events(self, bench: Bench) -> None:
        await bench.waiting("a", outbox=(event("a-1/1"), event("a-1/2")))
        claim = bench.claimant("relay")
        first = await bench.store.claim_outbox(claim, 1)
        assert [each.id for each in first.items] == ["a-1/1"]
        assert list((await bench.store.claim_outbox(claim, 1)).items) == list(first.items)

    async def test_events_of_finished_and_continued_runs_still_go_out(self, bench: Bench) -> None:
        await bench.commit(done(await bench.start("a"), outbox=(event("a-1/1"),)))
        await bench.commit(continued(await bench.start("b"), outbox=(event("b-1/1"),)))
        assert sorted(await self.claimed(bench)) == ["a-1/1", "b-1/1"]
