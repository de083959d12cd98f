"""Laws of queries and of answers to updates: each asked once, answered once, and never in a history."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from durable.backends.records import (
    Accepted,
    AskedTask,
    InstanceRef,
    Lost,
    NotFound,
    Question,
    Reply,
    Ticket,
)
from durable.testing.conformance.bench import Bench
from durable.testing.conformance.clock import MINUTE
from durable.testing.conformance.laws import Laws
from durable.testing.conformance.specimens import done, ended, step


def question(
    instance_id: str = "a", question_id: str = "q", run_id: str | None = None, **fields: Any
) -> Question:
    """A query of the run's progress."""
    ref = InstanceRef(instance_id=instance_id, run_id=run_id)
    all_fields: dict[str, Any] = {"name": "progress", "body": "[]", "timeout_us": MINUTE} | fields
    return Question(id=question_id, ref=ref, **all_fields)


def reply(question_id: str = "q", body: str = '"half"', instance_id: str = "a") -> Reply:
    """An answer."""
    return Reply(id=question_id, instance_id=instance_id, body=body)


class QuestionLaws(Laws):
    """`ask`, `claim_questions`, `answer`, `replies` and `Checkpoint.replies`."""

    async def ask(self, bench: Bench, *questions: Question) -> Sequence[Ticket | NotFound]:
        return (await bench.store.ask(questions)).items

    async def asked(self, bench: Bench, worker_id: str = "w1", **fields: Any) -> Sequence[AskedTask]:
        return (await bench.store.claim_questions(bench.claimant(worker_id, **fields), 10)).items

    async def answer(self, bench: Bench, *replies: Reply) -> Sequence[Accepted | Lost]:
        return (await bench.store.answer(replies)).items

    async def found(self, bench: Bench, question_id: str = "q", instance_id: str = "a") -> Reply | None:
        ticket = Ticket(id=question_id, instance_id=instance_id)
        return (await bench.store.replies([ticket])).items[0]

    async def test_a_question_goes_to_a_worker_and_its_answer_comes_back(self, bench: Bench) -> None:
        at = await bench.waiting("a")
        assert await self.ask(bench, question()) == [Ticket(id="q", instance_id="a")]
        assert await self.found(bench) is None
        expected = AskedTask(
            question_id="q",
            name="progress",
            body="[]",
            instance_id="a",
            run_id=at.run_id,
            workflow="Order",
            version="",
            head=at.new_head,
        )
        assert await self.asked(bench) == [expected]
        assert await self.answer(bench, reply()) == [Accepted()]
        assert await self.found(bench) == reply()
        assert len(await bench.history("a", at.run_id)) == 2
        assert await bench.claim() == [], "a question does not make the run ready"

    async def test_a_question_that_is_repeated_is_asked_once(self, bench: Bench) -> None:
        await bench.waiting("a")
        ticket = Ticket(id="q", instance_id="a")
        assert await self.ask(bench, question(), question()) == [ticket, ticket]
        assert len(await self.asked(bench)) == 1
        await self.answer(bench, reply())
        assert await self.ask(bench, question()) == [ticket]
        assert await self.asked(bench, "w2") == []
        assert await self.found(bench) == reply()

    async def test_nobody_cannot_be_asked(self, bench: Bench) -> None:
        await bench.waiting("a")
        assert (
            await self.ask(bench, question("nobody"), question("a", run_id="no such run")) == [NotFound()] * 2
        )

    async def test_a_run_can_be_asked_in_any_state(self, bench: Bench) -> None:
        await bench.commit(done(await bench.start("a", "r1")))
        await bench.start("a", "r2")
        await bench.change(ended("a"))
        await self.ask(bench, question(question_id="q1", run_id="r1"), question(question_id="q2"))
        assert [(q.question_id, q.run_id) for q in await self.asked(bench)] == [("q1", "r1"), ("q2", "r2")]

    async def test_a_question_goes_to_one_worker_at_a_time(self, bench: Bench) -> None:
        await bench.waiting("a")
        await self.ask(bench, question())
        assert len(await self.asked(bench, "w1")) == 1
        assert await self.asked(bench, "w2") == []
        await bench.outlive_lease()
        assert len(await self.asked(bench, "w2")) == 1

    async def test_a_question_waits_for_a_worker_with_the_code(self, bench: Bench) -> None:
        await bench.waiting("a")
        await self.ask(bench, question())
        assert await self.asked(bench, workflows=()) == []
        assert len(await self.asked(bench)) == 1

    async def test_the_second_answer_is_lost(self, bench: Bench) -> None:
        await bench.waiting("a")
        await self.ask(bench, question())
        await self.asked(bench)
        await self.answer(bench, reply(body="1"))
        assert await self.answer(bench, reply(body="2")) == [Lost()]
        assert await self.found(bench) == reply(body="1")

    async def test_an_answer_to_nothing_is_lost(self, bench: Bench) -> None:
        await bench.waiting("a")
        assert await self.answer(bench, reply("unknown")) == [Lost()]
        assert await self.found(bench, "unknown") is None

    async def test_a_question_runs_out_on_its_microsecond(self, bench: Bench) -> None:
        bench.under_test.needs_clock()
        await bench.waiting("a")
        await self.ask(bench, question(question_id="q1"), question(question_id="q2"))
        await bench.advance(MINUTE - 1)
        assert await self.answer(bench, reply("q1")) == [Accepted()]
        await bench.advance(1)
        assert await self.answer(bench, reply("q2")) == [Lost()]
        assert await self.asked(bench) == []

    async def test_a_question_about_a_forgotten_run_is_not_handed_out(self, bench: Bench) -> None:
        await bench.commit(done(await bench.start("a")))
        await self.ask(bench, question())
        await bench.store.delete([InstanceRef(instance_id="a")])
        assert await self.asked(bench) == []

    async def test_a_claim_repeated_with_its_token_gets_the_same_question(self, bench: Bench) -> None:
        await bench.waiting("a")
        await self.ask(bench, question())
        claim = bench.claimant("w1")
        first = await bench.store.claim_questions(claim, 1)
        assert len(first.items) == 1
        assert (await bench.store.claim_questions(claim, 1)).items == first.items

    async def test_an_answer_is_kept_for_ten_minutes(self, bench: Bench) -> None:
        bench.under_test.needs_clock()
        await bench.waiting("a")
        await self.ask(bench, question())
        await self.answer(bench, reply())
        await bench.advance(10 * MINUTE)
        assert await self.found(bench) == reply()

    async def test_the_answer_to_an_update_comes_with_a_checkpoint(self, bench: Bench) -> None:
        bench.under_test.needs_clock()
        at = await bench.waiting("a")
        checkpoint = step(at, replies=(reply("update-1"),))
        await bench.commit(checkpoint)
        await bench.commit(checkpoint)
        assert await self.found(bench, "update-1") == reply("update-1")
        await bench.commit(done(checkpoint))
        await bench.advance(1_000 * MINUTE)
        assert await self.found(bench, "update-1") == reply("update-1"), "as long as the id lives"

    async def test_answers_of_a_lost_checkpoint_are_not_given(self, bench: Bench) -> None:
        at = await bench.waiting("a")
        await bench.commit(step(at))
        await bench.commit(step(at, replies=(reply("update-1"),)))
        assert await self.found(bench, "update-1") is None

    async def test_answers_belong_to_their_instance(self, bench: Bench) -> None:
        a, b = await bench.waiting("a"), await bench.waiting("b")
        await bench.commit(step(a, replies=(reply("u", "1"),)), step(b, replies=(reply("u", "2", "b"),)))
        assert await self.found(bench, "u", "a") == reply("u", "1")
        assert await self.found(bench, "u", "b") == reply("u", "2", "b")
