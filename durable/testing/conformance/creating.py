"""Laws of creating: one unfinished run per id, whoever races and however often a call is repeated (I5)."""

from __future__ import annotations

import asyncio

from durable.backends.records import (
    Accepted,
    Created,
    Existing,
    Finished,
    InstanceRef,
    InstanceView,
    Pause,
    Taken,
)
from durable.testing.conformance.bench import Bench
from durable.testing.conformance.clock import MINUTE, SECOND
from durable.testing.conformance.laws import Laws
from durable.testing.conformance.specimens import done, ended, held, message, new, step


class CreatingLaws(Laws):
    """`ClientStore.create` and `NewInstance`."""

    async def test_a_new_run_can_be_seen_as_it_was_asked_for(self, bench: Bench) -> None:
        asked = new("a", "r1", version="2", tags={"shop": "7"}, events=(b"one", b"two"))
        assert await bench.create(asked) == [Created(run_id="r1")]
        view = await bench.view("a")
        assert view == InstanceView(
            instance_id="a",
            run_id="r1",
            workflow="Order",
            version="2",
            queue="default",
            state="running",
            status=None,
            tags={"shop": "7"},
            vars={},
            parent=None,
            head=asked.head,
            history_bytes=6,
            created_at_us=view.created_at_us,
            updated_at_us=view.created_at_us,
            closed_at_us=None,
            start_at_us=None,
            deadline_us=None,
            result=None,
            failure=None,
            problem=None,
            reason=None,
            next_run_id=None,
            first_run_id="r1",
        )
        assert await bench.history("a", "r1") == (b"one", b"two")

    async def test_a_new_run_was_made_at_the_time_of_the_stores_clock(self, bench: Bench) -> None:
        clock = bench.under_test.needs_clock()
        answer = await bench.store.create([new("a")])
        assert answer.now_us == clock.now_us == (await bench.view("a")).created_at_us

    async def test_what_was_not_made_is_not_there(self, bench: Bench) -> None:
        await bench.start("a", "r1")
        assert await bench.look("b") is None
        assert await bench.look("a", "r2") is None
        assert await bench.look("b", "r1") is None

    async def test_a_repeated_create_is_answered_like_the_first(self, bench: Bench) -> None:
        asked = new("a", messages=(message("a", "k"),))
        await bench.create(asked)
        before = await bench.snapshot()
        assert await bench.create(asked) == [Created(run_id=asked.run_id)]
        assert await bench.snapshot() == before
        assert [m.key for m in await bench.unread("a")] == ["k"]

    async def test_a_repeated_create_does_not_set_a_run_back(self, bench: Bench) -> None:
        asked = await bench.start("a", tags={"n": "1"})
        await bench.commit(step(asked))
        before = await bench.snapshot()
        assert await bench.create(asked) == [Created(run_id=asked.run_id)]
        assert await bench.snapshot() == before

    async def test_a_repeated_create_does_not_start_a_finished_run_again(self, bench: Bench) -> None:
        asked = await bench.start("a")
        await bench.commit(done(asked))
        assert await bench.create(asked) == [Created(run_id=asked.run_id)]
        assert (await bench.view("a")).state == "completed"
        assert await bench.claim() == []

    async def test_a_repeated_create_of_a_run_that_was_followed_changes_nothing(self, bench: Bench) -> None:
        first = await bench.start("a", "r1")
        await bench.commit(done(first))
        await bench.start("a", "r2")
        assert await bench.create(first) == [Created(run_id="r1")]
        assert (await bench.view("a")).run_id == "r2"

    async def test_an_id_with_an_unfinished_run_is_taken(self, bench: Bench) -> None:
        await bench.start("a", "r1")
        assert await bench.create(new("a", "r2")) == [Taken(run_id="r1", workflow="Order", state="running")]
        await bench.change(Pause(ref=InstanceRef(instance_id="a")))
        assert await bench.create(new("a", "r2")) == [Taken(run_id="r1", workflow="Order", state="paused")]
        assert await bench.look("a", "r2") is None

    async def test_a_finished_id_can_be_used_again_and_the_old_run_is_still_there(self, bench: Bench) -> None:
        first = await bench.start("a", "r1", tags={"n": "1"})
        await bench.commit(done(first))
        old = await bench.view("a")
        assert await bench.create(new("a", "r2")) == [Created(run_id="r2")]
        assert (await bench.view("a")).run_id == "r2"
        assert (await bench.view("a")).tags == {}
        assert await bench.view("a", "r1") == old
        assert await bench.history("a", "r1") == (b"started", b"completed")

    async def test_an_id_used_anew_has_forgotten_its_message_keys(self, bench: Bench) -> None:
        first = await bench.start("a", "r1", messages=(message("a", "k"),))
        await bench.commit(done(first, consumed=(1,), seen=1))
        await bench.waiting("a", "r2")
        assert await bench.send(message("a", "k")) == [Accepted()]
        assert [m.key for m in await bench.unread("a")] == ["k"]

    async def test_use_finds_the_unfinished_run_of_the_same_workflow(self, bench: Bench) -> None:
        await bench.start("a", "r1")
        again = new("a", "r2", if_exists="use")
        assert await bench.create(again, again) == [Existing(run_id="r1"), Existing(run_id="r1")]
        other = new("a", "r3", if_exists="use", workflow="Refund")
        assert await bench.create(other) == [Taken(run_id="r1", workflow="Order", state="running")]

    async def test_use_makes_a_run_when_there_is_no_unfinished_one(self, bench: Bench) -> None:
        assert await bench.create(new("a", "r1", if_exists="use")) == [Created(run_id="r1")]
        await bench.commit(done(new("a", "r1", head=(await bench.view("a")).head)))
        assert await bench.create(new("a", "r2", if_exists="use")) == [Created(run_id="r2")]

    async def test_use_puts_its_messages_into_the_run_that_it_finds_once(self, bench: Bench) -> None:
        await bench.waiting("a", "r1")
        again = new("a", "r2", if_exists="use", messages=(message("a", "k"),))
        assert await bench.create(again) == [Existing(run_id="r1")]
        assert await bench.create(again) == [Existing(run_id="r1")]
        assert [(m.number, m.key) for m in await bench.unread("a")] == [(1, "k")]

    async def test_a_refused_start_leaves_its_messages_nowhere(self, bench: Bench) -> None:
        await bench.waiting("a", "r1")
        await bench.create(new("a", "r2", messages=(message("a", "k"),)))
        assert await bench.claim() == []

    async def test_replace_ends_the_run_that_it_finds(self, bench: Bench) -> None:
        await bench.start("a", "r1")
        end = ended("a")
        again = new("a", "r2", if_exists="replace", replaces=end)
        assert await bench.create(again) == [Created(run_id="r2")]
        old = await bench.view("a", "r1")
        assert (old.state, old.failure) == ("terminated", "stopped")
        assert (old.head.number, old.head.token) == (2, end.token)
        assert await bench.history("a", "r1") == (b"started", b"terminated")
        assert (await bench.view("a")).run_id == "r2"
        before = await bench.snapshot()
        assert await bench.create(again) == [Created(run_id="r2")]
        assert await bench.snapshot() == before

    async def test_replace_fences_the_worker_of_the_run_that_it_ended(self, bench: Bench) -> None:
        first = await bench.start("a", "r1")
        await bench.create(new("a", "r2", if_exists="replace", replaces=ended("a")))
        (verdict,) = await bench.commit(step(first))
        assert not isinstance(verdict, Accepted)
        assert await bench.history("a", "r1") == (b"started", b"terminated")

    async def test_replace_makes_a_run_when_there_is_none(self, bench: Bench) -> None:
        assert await bench.create(new("a", "r1", if_exists="replace", replaces=ended("a"))) == [
            Created(run_id="r1")
        ]
        assert await bench.history("a", "r1") == (b"started",)

    async def test_first_messages_come_with_the_first_claim_in_their_order(self, bench: Bench) -> None:
        await bench.start("a", messages=(message("a", "x", kind="k1", body="b1"), message("a", "y")))
        task = await bench.claim_one("a")
        assert [(m.number, m.key) for m in task.messages] == [(1, "x"), (2, "y")]
        assert (task.messages[0].kind, task.messages[0].body) == ("k1", "b1")
        assert task.seen == 2

    async def test_a_delayed_run_is_ready_at_its_start_time_and_not_a_microsecond_before(
        self, bench: Bench
    ) -> None:
        clock = bench.under_test.needs_clock()
        start_at = clock.now_us + MINUTE
        await bench.start("a", start_at_us=start_at)
        answer = await bench.claim_answer()
        assert (list(answer.items), answer.next_wake_us) == ([], start_at)
        await bench.advance(MINUTE - 1)
        assert await bench.claim() == []
        await bench.advance(1)
        await bench.claim_one("a")

    async def test_a_message_makes_a_delayed_run_ready_before_its_start_time(self, bench: Bench) -> None:
        await bench.start("a", start_at_us=await bench.now() + MINUTE)
        await bench.start("b", start_at_us=await bench.now() + MINUTE, messages=(message("b", "first"),))
        assert [m.key for m in (await bench.claim_one("b")).messages] == ["first"]
        await bench.send(message("a", "early"))
        assert [m.key for m in (await bench.claim_one("a")).messages] == ["early"]

    async def test_a_time_limit_counts_from_the_creation(self, bench: Bench) -> None:
        await bench.start("a", timeout_us=5 * SECOND)
        view = await bench.view("a")
        assert view.deadline_us == view.created_at_us + 5 * SECOND

    async def test_a_run_born_claimed_is_handed_to_others_when_its_lease_has_run_out(
        self, bench: Bench
    ) -> None:
        await bench.start("a", lease=held("w1", bench.lease_us))
        assert await bench.claim("w2") == []
        await bench.outlive_lease()
        await bench.claim_one("a", "w2")

    async def test_of_fifty_starts_at_once_exactly_one_makes_the_run(self, bench: Bench) -> None:
        asked = [new("a", f"r{n}") for n in range(50)]
        answers = await asyncio.gather(*(bench.store.create([one]) for one in asked))
        items = [answer.items[0] for answer in answers]
        (created,) = [item for item in items if isinstance(item, Created)]
        taken = Taken(run_id=created.run_id, workflow="Order", state="running")
        assert [item for item in items if item != created] == [taken] * 49
        assert (await bench.view("a")).run_id == created.run_id

    async def test_of_fifty_starts_in_one_batch_the_first_makes_the_run(self, bench: Bench) -> None:
        items = await bench.create(*(new("a", f"r{n}") for n in range(50)))
        assert items[0] == Created(run_id="r0")
        assert items[1:] == [Taken(run_id="r0", workflow="Order", state="running")] * 49

    async def test_many_starts_of_many_ids_at_once_make_each_id_once(self, bench: Bench) -> None:
        batches = [[new(f"i{n}", f"i{n}-{caller}") for n in range(20)] for caller in range(5)]
        answers = await asyncio.gather(*(bench.store.create(batch) for batch in batches))
        for n in range(20):
            assert sum(isinstance(answer.items[n], Created) for answer in answers) == 1

    async def test_a_message_to_a_run_that_was_replaced_by_its_id_is_refused(self, bench: Bench) -> None:
        first = await bench.start("a", "r1")
        await bench.commit(done(first))
        await bench.start("a", "r2")
        assert await bench.send(message("a", run_id="r1")) == [Finished(state="completed")]
