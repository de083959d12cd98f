"""Laws of the fence: a checkpoint is written if the run's head is still the one it was made from, else not at all.

I1, I2, I9, I12 and I13, and facts of the contract about `commit` that concern the run itself.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace

from durable.backends.records import (
    Absorbed,
    Accepted,
    Close,
    Head,
    HistoryRange,
    InstanceRef,
    Lost,
    OutboxEvent,
    Pause,
    Paused,
    TooEarly,
)
from durable.testing.conformance.bench import Bench
from durable.testing.conformance.clock import MINUTE
from durable.testing.conformance.laws import Laws
from durable.testing.conformance.specimens import (
    activity,
    child,
    done,
    held,
    message,
    new,
    signal,
    step,
)


class HeadLaws(Laws):
    """`WorkerStore.commit` as far as the run itself is concerned."""

    async def test_an_accepted_checkpoint_appends_its_events_and_moves_the_head(self, bench: Bench) -> None:
        at = await bench.start("a")
        checkpoint = step(at, b"two", b"three")
        assert await bench.commit(checkpoint) == [Accepted()]
        assert await bench.history("a", at.run_id) == (b"started", b"two", b"three")
        view = await bench.view("a")
        assert view.head == checkpoint.new_head
        assert view.history_bytes == len(b"startedtwothree")

    async def test_a_repeated_checkpoint_is_accepted_and_changes_nothing(self, bench: Bench) -> None:
        await bench.waiting("b")
        at = await bench.start("a")
        checkpoint = step(
            at, activities=(activity(),), sends=(signal(2, "b"),), status="paid", vars={"x": "1"}
        )
        first = await bench.commit(checkpoint)
        before = await bench.snapshot()
        assert await bench.commit(checkpoint) == first
        assert isinstance(first[0], Accepted)
        assert await bench.snapshot() == before
        assert len(await bench.claim_activities()) == 1
        assert len(await bench.unread("b")) == 1

    async def test_a_repeated_closing_checkpoint_is_accepted(self, bench: Bench) -> None:
        checkpoint = done(await bench.start("a"))
        assert await bench.commit(checkpoint) == [Accepted()]
        before = await bench.snapshot()
        assert await bench.commit(checkpoint) == [Accepted()]
        assert await bench.snapshot() == before

    async def test_a_checkpoint_from_an_older_head_is_lost(self, bench: Bench) -> None:
        at = await bench.start("a")
        await bench.commit(step(at, b"mine"))
        assert await bench.commit(step(at, b"late")) == [Lost()]
        assert await bench.history("a", at.run_id) == (b"started", b"mine")

    async def test_a_checkpoint_that_was_followed_by_another_is_lost_when_repeated(
        self, bench: Bench
    ) -> None:
        first = step(await bench.start("a"))
        await bench.commit(first)
        await bench.commit(step(first))
        assert await bench.commit(first) == [Lost()]
        assert len(await bench.history("a", first.run_id)) == 3

    async def test_the_number_of_the_head_alone_is_not_enough(self, bench: Bench) -> None:
        """A counter repeats after a fail-over to an older copy; a random token does not."""
        at = await bench.start("a")
        forged = replace(at, head=Head(number=at.head.number, token="another"))
        assert await bench.commit(step(forged)) == [Lost()]
        assert await bench.history("a", at.run_id) == (b"started",)

    async def test_the_token_of_the_head_alone_is_not_enough(self, bench: Bench) -> None:
        at = await bench.start("a")
        forged = replace(at, head=Head(number=at.head.number + 1, token=at.head.token))
        assert await bench.commit(step(forged)) == [Lost()]
        assert await bench.history("a", at.run_id) == (b"started",)

    async def test_another_checkpoint_to_a_head_of_the_same_number_is_lost(self, bench: Bench) -> None:
        at = await bench.start("a")
        mine, theirs = step(at, b"mine"), step(at, b"theirs")
        assert mine.new_head.number == theirs.new_head.number
        assert await bench.commit(mine) == [Accepted()]
        assert await bench.commit(theirs) == [Lost()]
        assert await bench.history("a", at.run_id) == (b"started", b"mine")

    async def test_a_checkpoint_of_a_run_that_there_is_not_is_lost(self, bench: Bench) -> None:
        at = await bench.start("a", "r1")
        assert await bench.commit(step(new("b"))) == [Lost()]
        assert await bench.commit(step(replace(at, run_id="r2"))) == [Lost()]
        assert len(await bench.history("a", "r1")) == 1

    async def test_a_checkpoint_of_a_finished_run_is_lost(self, bench: Bench) -> None:
        end = done(await bench.start("a"))
        await bench.commit(end)
        before = await bench.snapshot()
        assert await bench.commit(step(end, sends=(signal(5, "a"),), activities=(activity(5),))) == [Lost()]
        assert await bench.snapshot() == before
        assert await bench.claim_activities() == []

    async def test_a_lost_checkpoint_writes_nothing_of_all_that_it_carries(self, bench: Bench) -> None:
        await bench.waiting("b")
        at = await bench.start("a", messages=(message("a", "k"),))
        await bench.commit(step(at))
        before = await bench.snapshot()
        late = step(
            at,
            consumed=(1,),
            seen=1,
            activities=(activity(7),),
            sends=(signal(8, "b"),),
            children=(child(9, new("c")),),
            outbox=(OutboxEvent(id="a-1/1", topic="t", payload="p"),),
            status="late",
            vars={"late": "1"},
            close=Close(state="completed", result="1"),
        )
        assert await bench.commit(late) == [Lost()]
        assert await bench.snapshot() == before
        assert await bench.claim_activities() == []
        assert await bench.look("c") is None
        assert [(task.instance_id, len(task.messages)) for task in await bench.claim()] == [("a", 1)]
        assert list((await bench.store.claim_outbox(bench.claimant(), 10)).items) == []

    async def test_of_two_to_eight_committers_at_once_exactly_one_wins(self, bench: Bench) -> None:
        for racers in range(2, 9):
            at = await bench.start(f"i{racers}")
            racing = [step(at, b"by %d" % n, activities=(activity(n),)) for n in range(racers)]
            answers = await asyncio.gather(*(bench.store.commit([one]) for one in racing))
            verdicts = [answer.items[0] for answer in answers]
            winner = verdicts.index(Accepted())
            assert verdicts == [Accepted() if n == winner else Lost() for n in range(racers)]
            assert await bench.history(at.instance_id, at.run_id) == (b"started", b"by %d" % winner)
            assert [task.ref.number for task in await bench.claim_activities()] == [winner]

    async def test_of_eight_committers_in_one_batch_the_first_wins(self, bench: Bench) -> None:
        at = await bench.start("a")
        assert await bench.commit(*(step(at) for _ in range(8))) == [Accepted()] + [Lost()] * 7
        assert len(await bench.history("a", at.run_id)) == 2

    async def test_one_batch_may_hold_two_checkpoints_of_a_run_in_a_row(self, bench: Bench) -> None:
        first = step(await bench.start("a"), b"two")
        assert await bench.commit(first, step(first, b"three")) == [Accepted(), Accepted()]
        assert await bench.history("a", first.run_id) == (b"started", b"two", b"three")

    async def test_a_checkpoint_needs_no_lease(self, bench: Bench) -> None:
        """The head is the fence: who has the run warm may go on, though another holds the lease."""
        at = await bench.start("a")
        await bench.claim_one("a", "w2")
        assert await bench.commit(step(at)) == [Accepted()]

    async def test_a_paused_run_takes_the_checkpoint_and_says_so(self, bench: Bench) -> None:
        at = await bench.start("a")
        await bench.change(Pause(ref=InstanceRef(instance_id="a")))
        checkpoint = step(at, b"two")
        assert await bench.commit(checkpoint) == [Paused()]
        assert await bench.commit(checkpoint) == [Paused()]
        assert await bench.history("a", at.run_id) == (b"started", b"two")
        assert (await bench.view("a")).state == "paused"

    async def test_status_and_vars_are_kept_until_they_are_set_again(self, bench: Bench) -> None:
        first = await bench.waiting("a", status="packing", vars={"x": "1", "y": "1"})
        second = step(first, vars={"y": "2"})
        await bench.commit(second)
        view = await bench.view("a")
        assert (view.status, view.vars) == ("packing", {"x": "1", "y": "2"})
        await bench.commit(step(second, status="sent"))
        assert (await bench.view("a")).status == "sent"

    async def test_updated_at_is_the_time_of_the_last_write(self, bench: Bench) -> None:
        clock = bench.under_test.needs_clock()
        first = await bench.waiting("a")
        await bench.advance(MINUTE)
        await bench.commit(step(first))
        view = await bench.view("a")
        assert (view.updated_at_us, view.created_at_us) == (clock.now_us, clock.now_us - MINUTE)

    async def test_history_is_read_in_slices_as_it_was_written(self, bench: Bench) -> None:
        at = await bench.start("a")
        last = step(at, b"", b"\x00\xff", b"4")
        await bench.commit(last)
        for after, events in ((0, 4), (1, 3), (3, 1), (4, 0), (99, 0)):
            assert len(await bench.history("a", at.run_id, after)) == events
        assert await bench.history("a", at.run_id, 1) == (b"", b"\x00\xff", b"4")
        assert await bench.history("a", "no such run") == ()

    async def test_many_histories_are_read_at_once_in_the_order_asked(self, bench: Bench) -> None:
        for name in "abc":
            await bench.start(name, events=(name.encode(),))
        ranges = [HistoryRange(instance_id=name, run_id=f"{name}-1") for name in ("c", "nobody", "a", "c")]
        items = (await bench.store.read_history(ranges)).items
        assert [(part.instance_id, part.after, part.events) for part in items] == [
            ("c", 0, (b"c",)),
            ("nobody", 0, ()),
            ("a", 0, (b"a",)),
            ("c", 0, (b"c",)),
        ]

    async def test_a_long_history_is_read_whole_and_in_order(self, bench: Bench) -> None:
        events = tuple(b"%d" % n for n in range(3_000))
        at = await bench.start("a", events=events)
        await bench.commit(step(at, *events))
        assert await bench.history("a", at.run_id) == events + events

    async def test_an_absorbed_activity_whose_token_does_not_stand_loses_the_checkpoint(
        self, bench: Bench
    ) -> None:
        at = await bench.scheduled("a")
        task = await bench.claim_activity()
        stale = step(at, b"late", absorbed=(Absorbed(number=1, token="another"),))
        assert await bench.commit(stale) == [Lost()]
        assert len(await bench.history("a", at.run_id)) == 2
        right = step(at, b"result", absorbed=(Absorbed(number=1, token=task.token),))
        assert await bench.commit(right) == [Accepted()]
        assert await bench.commit(right) == [Accepted()]
        assert (await bench.store.stats()).activity_tasks.get("default", 0) == 0

    async def test_an_activity_can_be_born_claimed_and_absorbed(self, bench: Bench) -> None:
        lease = held("w1", bench.lease_us, token="mine")
        at = await bench.waiting("a", activities=(activity(1, lease=lease),))
        result = step(at, b"result", absorbed=(Absorbed(number=1, token="mine"),))
        assert await bench.commit(result) == [Accepted()]
        await bench.outlive_lease()
        assert await bench.claim_activities() == []

    async def test_a_timer_fired_ahead_of_the_stores_clock_is_too_early(self, bench: Bench) -> None:
        clock = bench.under_test.needs_clock()
        due = clock.now_us + 500_000
        at = await bench.waiting("a", wake_at_us=due)
        fired = step(at, b"fired", fired_until_us=due)
        await bench.advance(499_999)
        assert await bench.commit(fired) == [TooEarly()]
        assert len(await bench.history("a", at.run_id)) == 2
        await bench.advance(1)
        assert await bench.commit(fired) == [Accepted()]
        assert await bench.commit(fired) == [Accepted()]

    async def test_a_run_is_ready_when_its_timer_is_due_and_not_a_microsecond_before(
        self, bench: Bench
    ) -> None:
        clock = bench.under_test.needs_clock()
        due = clock.now_us + 1_500_000
        await bench.waiting("a", wake_at_us=due)
        answer = await bench.claim_answer()
        assert (list(answer.items), answer.next_wake_us) == ([], due)
        await bench.advance(1_499_999)
        assert await bench.claim() == []
        await bench.advance(1)
        assert (await bench.claim_one("a")).wake_at_us == due

    async def test_a_checkpoint_without_a_timer_takes_the_old_one_away(self, bench: Bench) -> None:
        clock = bench.under_test.needs_clock()
        at = await bench.waiting("a", wake_at_us=clock.now_us + MINUTE)
        await bench.commit(step(at))
        await bench.advance(2 * MINUTE)
        assert await bench.claim() == []
