"""Laws of repetition: a caller who heard no answer asks again, and the effect is that of one call (I13).

Single calls are repeated in the files of their nouns; here whole stories are told to a store whose replies get lost.
"""

from __future__ import annotations

from typing import Any, cast

from durable.backends.contract import Backend
from durable.backends.records import (
    Accepted,
    ActivityRetry,
    Close,
    InstanceRef,
    Parent,
    Pause,
    Resume,
)
from durable.testing.conformance.bench import Bench
from durable.testing.conformance.laws import Laws
from durable.testing.conformance.lost_replies import LosesReplies, Repeats
from durable.testing.conformance.specimens import (
    activity,
    child,
    continued,
    done,
    ended,
    finished,
    message,
    new,
    signal,
    step,
)


def deaf(bench: Bench) -> tuple[Bench, LosesReplies]:
    """The same bench for a caller whose every call is carried out twice, because the first reply was lost."""
    line: Any = LosesReplies(bench.store)
    return Bench(cast(Backend, Repeats(line)), bench.under_test), line


class RepeatingLaws(Laws):
    """Stories told with every reply lost."""

    async def test_a_whole_life_with_every_reply_lost(self, bench: Bench) -> None:
        """Start, claim, activity with a retry, message, result, end; each call carried out twice."""
        ill, line = deaf(bench)
        await ill.create(new("a", "r1", messages=(message("a", "k0"),)))
        run = await ill.claim_one("a")
        assert (run.claims, len(run.messages)) == (1, 1)
        first = step(run, b"scheduled", consumed=(1,), seen=1, activities=(activity(1),), status="waiting")
        assert await ill.commit(first) == [Accepted()]
        task = await ill.claim_activity()
        await ill.finish(ActivityRetry(ref=task.ref, token=task.token, delay_us=0, failure='"x"'))
        task = await ill.claim_activity()
        assert (task.attempt, task.deliveries) == (2, 1)
        await ill.finish(finished(task))
        await ill.send(message("a", "k1"))
        run = await ill.claim_one("a")
        assert [m.number for m in run.messages] == [2, 3]
        assert await ill.commit(done(run, consumed=(2, 3))) == [Accepted()]
        assert await bench.history("a", "r1") == (b"started", b"scheduled", b"completed")
        assert (await bench.view("a")).state == "completed"
        assert line.count >= 10

    async def test_a_family_with_every_reply_lost(self, bench: Bench) -> None:
        ill, _ = deaf(bench)
        await ill.create(parent := new("p", "p1"))
        kid = new("c", "c1", parent=Parent(instance_id="p", run_id="p1", number=2))
        first = step(parent, children=(child(2, kid),), sends=(signal(3, "c", "hello"),))
        await ill.commit(first)
        assert [m.body for m in await ill.unread("p")] == ["2 started", "3 delivered"]
        assert [m.key for m in await ill.unread("c")] == ["hello"]
        await ill.commit(done(kid, consumed=(1,), seen=1, close=Close(state="completed", parent_body="end")))
        task = await ill.claim_one("p")
        assert [m.body for m in task.messages] == ["2 started", "3 delivered", "end"]

    async def test_a_chain_with_every_reply_lost(self, bench: Bench) -> None:
        ill, _ = deaf(bench)
        await ill.create(new("a", "r1"))
        for n in range(2, 5):
            await ill.send(message("a", f"k{n}"))
            run = await ill.claim_one("a")
            numbers = tuple(m.number for m in run.messages)
            assert len(numbers) == 1
            assert await ill.commit(continued(run, f"r{n}", consumed=numbers)) == [Accepted()]
        assert [len(await bench.history("a", f"r{n}")) for n in range(1, 5)] == [2, 2, 2, 1]

    async def test_changes_with_every_reply_lost(self, bench: Bench) -> None:
        ill, _ = deaf(bench)
        await ill.create(new("a", "r1"))
        ref = InstanceRef(instance_id="a")
        assert await ill.change(Pause(ref=ref), Resume(ref=ref), Pause(ref=ref)) == [Accepted()] * 3
        assert await ill.change(ended("a")) == [Accepted()]
        assert await ill.create(new("a", "r2", if_exists="use", messages=(message("a"),))) != []
        assert await bench.history("a", "r1") == (b"started", b"terminated")
        assert len((await bench.claim_one("a")).messages) == 1

    async def test_no_repeated_call_changes_anything(self, bench: Bench) -> None:
        """Every call that writes, twice: what can be seen after the second is what was seen after the first."""
        store = bench.store
        at = new("a", "r1")
        first = step(at, activities=(activity(1),))
        calls: list[tuple[Any, Any]] = [
            (store.create, [at, new("b")]),
            (store.send, [message("a", "k"), message("b", "k")]),
            (store.commit, [first]),
            (store.change, [Pause(ref=InstanceRef(instance_id="b"))]),
            (store.commit, [done(first, consumed=(1,), seen=1)]),
            (store.change, [ended("b")]),
            (store.delete, [InstanceRef(instance_id="b")]),
        ]
        for call, items in calls:
            await call(items)
            seen = await bench.snapshot()
            await call(items)
            assert await bench.snapshot() == seen
