"""Laws of the inbox: what was accepted is there once, in order, and wakes the run (I14, I15).

A message is unread until a checkpoint names it as consumed.
"""

from __future__ import annotations

import asyncio

from durable.backends.records import (
    MAX_MESSAGES_PER_TASK,
    MAX_UNREAD_MESSAGES,
    Accepted,
    Checkpoint,
    Close,
    Finished,
    Full,
    InstanceRef,
    MoreMessages,
    NewMessage,
    NotFound,
    Verdict,
)
from durable.testing.conformance.bench import Bench
from durable.testing.conformance.laws import Laws
from durable.testing.conformance.specimens import continued, done, ended, message, signal, step


class MessageLaws(Laws):
    """`ClientStore.send`, `Checkpoint.consumed`, `Checkpoint.seen` and `Checkpoint.sends`."""

    async def test_an_accepted_message_is_there_at_once_as_it_was_sent(self, bench: Bench) -> None:
        """The ack comes after the insert, never before."""
        await bench.waiting("a")
        assert await bench.send(message("a", "k", kind="signal", body='{"x":"\x00"}')) == [Accepted()]
        (got,) = (await bench.claim_one("a")).messages
        assert (got.number, got.key, got.kind, got.body) == (1, "k", "signal", '{"x":"\x00"}')
        assert got.sent_at_us <= await bench.now()

    async def test_a_message_makes_a_waiting_run_ready(self, bench: Bench) -> None:
        await bench.waiting("a")
        assert await bench.claim() == []
        await bench.send(message("a"))
        await bench.claim_one("a")

    async def test_messages_are_numbered_in_the_order_of_their_arrival(self, bench: Bench) -> None:
        at = await bench.waiting("a")
        await bench.send(message("a", "z"), message("a", "y"))
        await bench.send(message("a", "x"))
        first = await bench.claim_one("a")
        assert [(m.number, m.key) for m in first.messages] == [(1, "z"), (2, "y"), (3, "x")]
        await bench.commit(step(at, consumed=(1, 2, 3), seen=3))
        await bench.send(message("a", "w"))
        assert [(m.number, m.key) for m in await bench.unread("a")] == [(4, "w")]

    async def test_a_repeated_key_is_accepted_and_kept_once(self, bench: Bench) -> None:
        await bench.waiting("a")
        one = message("a", "k", body="1")
        assert await bench.send(one, one) == [Accepted(), Accepted()]
        assert await bench.send(message("a", "k", body="2")) == [Accepted()]
        assert [(m.number, m.body) for m in await bench.unread("a")] == [(1, "1")]

    async def test_a_key_is_remembered_after_its_message_was_consumed(self, bench: Bench) -> None:
        at = await bench.waiting("a")
        await bench.send(message("a", "k"))
        await bench.commit(step(at, consumed=(1,), seen=1))
        assert await bench.send(message("a", "k")) == [Accepted()]
        assert await bench.claim() == []

    async def test_a_key_is_remembered_over_continue_as_new(self, bench: Bench) -> None:
        at = await bench.waiting("a", "r1")
        await bench.send(message("a", "k"))
        assert await bench.commit(continued(at, "r2", consumed=(1,), seen=1)) == [Accepted()]
        await bench.commit(step(await bench.claim_one("a")))
        assert await bench.send(message("a", "k")) == [Accepted()]
        assert await bench.claim() == []

    async def test_a_repeated_key_is_accepted_although_the_run_has_finished_since(self, bench: Bench) -> None:
        """Else a sender whose reply was lost would hear that its message came too late, which it did not."""
        at = await bench.waiting("a")
        await bench.send(message("a", "k"))
        await bench.commit(done(at, consumed=(1,), seen=1))
        assert await bench.send(message("a", "k")) == [Accepted()]
        assert await bench.send(message("a", "other")) == [Finished(state="completed")]

    async def test_a_repeated_key_is_accepted_although_its_run_is_gone_since(self, bench: Bench) -> None:
        at = await bench.waiting("a", "r1")
        sent = message("a", "k", run_id="r1")
        await bench.send(sent)
        await bench.commit(continued(at, "r2", consumed=(1,), seen=1))
        assert await bench.send(sent) == [Accepted()]
        await bench.store.delete([InstanceRef(instance_id="a", run_id="r1")])
        assert await bench.send(sent) == [Accepted()]

    async def test_what_a_finished_run_did_not_read_does_not_reach_the_next_life_of_its_id(
        self, bench: Bench
    ) -> None:
        await bench.waiting("a", "r1")
        await bench.send(message("a"))
        await bench.change(ended("a"))
        await bench.start("a", "r2", messages=(message("a", "new"),))
        assert [m.key for m in (await bench.claim_one("a")).messages] == ["new"]

    async def test_keys_belong_to_their_instance(self, bench: Bench) -> None:
        await bench.waiting("a")
        await bench.waiting("b")
        await bench.send(message("a", "k", body="for a"), message("b", "k", body="for b"))
        tasks = await bench.claim()
        assert [(t.instance_id, t.messages[0].body) for t in tasks] == [("a", "for a"), ("b", "for b")]

    async def test_nobody_and_the_finished_are_told_apart(self, bench: Bench) -> None:
        await bench.waiting("a", "r1")
        at = await bench.start("b", "r1")
        await bench.commit(step(at, close=Close(state="failed", failure="{}")))
        assert await bench.send(message("nobody"), message("b"), message("a", run_id="r2")) == [
            NotFound(),
            Finished(state="failed"),
            NotFound(),
        ]

    async def test_a_message_for_a_run_reaches_that_run_only(self, bench: Bench) -> None:
        at = await bench.waiting("a", "r1")
        assert await bench.send(message("a", "k", run_id="r1")) == [Accepted()]
        assert [m.key for m in await bench.unread("a")] == ["k"]
        await bench.commit(continued(at, "r2", consumed=(1,), seen=1))
        assert await bench.send(message("a", run_id="r1")) == [Finished(state="continued_as_new")]

    async def test_only_the_messages_that_are_named_are_consumed(self, bench: Bench) -> None:
        at = await bench.waiting("a")
        await bench.send(message("a", "x"), message("a", "y"), message("a", "z"))
        await bench.commit(step(at, consumed=(2,), seen=2))
        task = await bench.claim_one("a")
        assert [m.key for m in task.messages] == ["x", "z"]
        assert task.seen == 3

    async def test_a_message_that_came_after_the_claim_keeps_the_run_ready(self, bench: Bench) -> None:
        """The wake-up and the message are one write; a commit must not clear what it has not seen."""
        await bench.waiting("a")
        await bench.send(message("a", "x"))
        task = await bench.claim_one("a")
        await bench.send(message("a", "y"))
        assert await bench.commit(step(task, consumed=(1,), seen=task.seen)) == [Accepted(unread=True)]
        assert [m.key for m in (await bench.claim_one("a", "w2")).messages] == ["y"]

    async def test_a_checkpoint_that_took_all_messages_says_that_none_is_unread(self, bench: Bench) -> None:
        await bench.waiting("a")
        await bench.send(message("a"))
        task = await bench.claim_one("a")
        assert await bench.commit(step(task, consumed=(1,), seen=1)) == [Accepted(unread=False)]
        assert await bench.claim() == []

    async def test_closing_with_an_unseen_message_is_answered_with_that_message(self, bench: Bench) -> None:
        at = await bench.waiting("a")
        await bench.send(message("a", "x"), message("a", "y"))
        (verdict,) = await bench.commit(done(at, consumed=(1,), seen=1))
        assert isinstance(verdict, MoreMessages)
        assert [(m.number, m.key) for m in verdict.messages] == [(2, "y")]
        assert (await bench.view("a")).state == "running"
        assert [m.key for m in await bench.unread("a")] == ["x", "y"]
        assert await bench.commit(done(at, consumed=(1, 2), seen=2)) == [Accepted()]

    async def test_closing_may_leave_messages_that_it_has_seen(self, bench: Bench) -> None:
        at = await bench.waiting("a")
        await bench.send(message("a", "x"))
        assert await bench.commit(done(at, seen=1)) == [Accepted()]
        assert await bench.claim() == []

    async def test_continuing_with_an_unseen_message_is_answered_with_that_message(
        self, bench: Bench
    ) -> None:
        at = await bench.waiting("a", "r1")
        await bench.send(message("a", "x"))
        (verdict,) = await bench.commit(continued(at, "r2"))
        assert isinstance(verdict, MoreMessages)
        assert [m.key for m in verdict.messages] == ["x"]
        assert (await bench.view("a")).run_id == "r1"

    async def race(
        self, bench: Bench, checkpoint: Checkpoint, sent: NewMessage, n: int
    ) -> tuple[Verdict, Verdict]:
        """Commit and send at once; for every second ``n`` the sender begins."""
        if n % 2:
            (second,), (first,) = await asyncio.gather(bench.send(sent), bench.commit(checkpoint))
        else:
            (first,), (second,) = await asyncio.gather(bench.commit(checkpoint), bench.send(sent))
        return first, second

    async def test_a_send_that_races_with_a_close_is_seen_or_refused(self, bench: Bench) -> None:
        for n in range(10):
            at = await bench.waiting(f"i{n}")
            closed, sent = await self.race(bench, done(at), message(at.instance_id), n)
            assert (type(closed), sent) in [
                (Accepted, Finished(state="completed")),
                (MoreMessages, Accepted()),
            ]

    async def test_a_send_that_races_with_continue_as_new_arrives(self, bench: Bench) -> None:
        for n in range(10):
            at = await bench.waiting(f"i{n}", f"i{n}-1")
            _, sent = await self.race(bench, continued(at, f"i{n}-2"), message(at.instance_id, "k"), n)
            assert sent == Accepted()
            assert [m.key for m in await bench.unread(at.instance_id)] == ["k"]

    async def test_a_claim_takes_at_most_a_thousand_messages_oldest_first(self, bench: Bench) -> None:
        at = await bench.waiting("a")
        await bench.send(*(message("a", f"k{n}") for n in range(1, MAX_MESSAGES_PER_TASK + 2)))
        task = await bench.claim_one("a")
        assert [m.number for m in task.messages] == list(range(1, MAX_MESSAGES_PER_TASK + 1))
        assert task.seen == MAX_MESSAGES_PER_TASK
        consumed = tuple(m.number for m in task.messages)
        assert await bench.commit(step(at, consumed=consumed, seen=task.seen)) == [Accepted(unread=True)]
        assert [m.number for m in await bench.unread("a")] == [MAX_MESSAGES_PER_TASK + 1]

    async def test_an_inbox_is_full_at_its_limit_and_not_before(self, bench: Bench) -> None:
        at = await bench.waiting("a")
        for begin in range(0, MAX_UNREAD_MESSAGES - 1, 5_000):
            end = min(begin + 5_000, MAX_UNREAD_MESSAGES - 1)
            verdicts = await bench.send(*(message("a", f"k{n}") for n in range(begin, end)))
            assert set(verdicts) == {Accepted()}
        assert await bench.send(message("a", "last"), message("a", "over")) == [Accepted(), Full()]
        assert await bench.send(message("a", "last")) == [Accepted()], (
            "a key seen before is accepted, full or not"
        )
        assert await bench.commit(step(at, consumed=(1,), seen=1)) == [Accepted(unread=True)]
        assert await bench.send(message("a", "over")) == [Accepted()]

    async def test_a_hundred_senders_at_once_lose_nothing_and_double_nothing(self, bench: Bench) -> None:
        await bench.waiting("a")
        sends = [
            bench.store.send([message("a", f"k{n}") for n in range(k, k + 10)]) for k in range(0, 500, 5)
        ]
        await asyncio.gather(*sends)
        got = await bench.unread("a")
        assert [m.number for m in got] == list(range(1, 506))
        assert {m.key for m in got} == {f"k{n}" for n in range(505)}

    # --- messages of checkpoints

    async def outcomes(self, bench: Bench, instance_id: str) -> list[tuple[str, str, str]]:
        """The unread messages of an instance, without their numbers."""
        return [(m.kind, m.key, m.body) for m in await bench.unread(instance_id)]

    async def test_the_outcome_of_a_send_comes_back_to_its_sender(self, bench: Bench) -> None:
        await bench.waiting("b")
        await bench.waiting("a", "r1", sends=(signal(2, "b", "k"), signal(3, "nobody")))
        assert await self.outcomes(bench, "a") == [
            ("outcome", "outcome/r1/2", "2 delivered"),
            ("outcome", "outcome/r1/3", "3 not_found"),
        ]
        assert [m.key for m in await bench.unread("b")] == ["k"]

    async def test_a_send_to_a_finished_instance_says_so_and_does_not_fail_the_checkpoint(
        self, bench: Bench
    ) -> None:
        await bench.commit(done(await bench.start("b")))
        await bench.waiting("a", "r1", sends=(signal(2, "b"),))
        assert await self.outcomes(bench, "a") == [("outcome", "outcome/r1/2", "2 finished")]

    async def test_an_instance_can_send_to_itself(self, bench: Bench) -> None:
        await bench.waiting("a", "r1", sends=(signal(2, "a", "k"),))
        found = sorted(await self.outcomes(bench, "a"))
        assert found == [("outcome", "outcome/r1/2", "2 delivered"), ("signal", "k", '"hello"')]

    async def test_the_last_checkpoint_of_a_run_still_sends(self, bench: Bench) -> None:
        await bench.waiting("b")
        await bench.commit(done(await bench.start("a"), sends=(signal(2, "b", "k"),)))
        assert (await bench.view("a")).state == "completed"
        assert [m.key for m in await bench.unread("b")] == ["k"]

    async def test_a_repeated_checkpoint_sends_once(self, bench: Bench) -> None:
        target = await bench.waiting("b")
        checkpoint = step(await bench.start("a"), sends=(signal(2, "b", "k"),))
        await bench.commit(checkpoint)
        await bench.commit(step(target, consumed=(1,), seen=1))
        await bench.commit(checkpoint)
        assert [task.instance_id for task in await bench.claim()] == ["a"]

    async def test_two_instances_that_send_to_each_other_at_once_both_hear_it(self, bench: Bench) -> None:
        for n in range(10):
            a, b = await bench.waiting(f"a{n}"), await bench.waiting(f"b{n}")
            sends = [step(a, sends=(signal(9, b.instance_id),)), step(b, sends=(signal(9, a.instance_id),))]
            await asyncio.gather(*(bench.commit_until_judged(one) for one in sends))
            for name in (a.instance_id, b.instance_id):
                assert sorted(m.kind for m in await bench.unread(name)) == ["outcome", "signal"]

    async def test_a_message_does_not_wake_a_finished_run(self, bench: Bench) -> None:
        at = await bench.start("a", "r1")
        await bench.commit(done(at))
        await bench.send(message("a", run_id="r1"))
        assert await bench.claim() == []
        ref = InstanceRef(instance_id="a", run_id="r1")
        assert (await bench.store.get([ref])).items[0] is not None
