"""Laws of plural calls: an answer each, in order; one order per batch; a bad item hurts no other (I12, I29, I34)."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from durable.backends.records import (
    Accepted,
    Close,
    Created,
    Finished,
    Lost,
    NotFound,
    Parent,
    Refused,
    Taken,
)
from durable.testing.conformance.bench import Bench
from durable.testing.conformance.laws import Laws
from durable.testing.conformance.specimens import (
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

ORDERS = list(itertools.permutations(("signal", "close", "start")))


class BatchLaws(Laws):
    """The laws for every method, on the methods where they bite."""

    async def test_nothing_asked_is_nothing_answered(self, bench: Bench) -> None:
        store: Any = bench.store
        for name in (
            "create",
            "send",
            "get",
            "change",
            "commit",
            "read_history",
            "finish_activities",
            "extend",
        ):
            answer = await getattr(store, name)([])
            assert list(answer.items) == [] and answer.now_us > 0
        for name in ("release", "close_done", "answer", "ask", "replies", "delete", "finish_outbox"):
            assert list((await getattr(store, name)([])).items) == []

    @pytest.mark.parametrize("order", ORDERS, ids="-".join)
    async def test_a_signals_b_b_ends_and_c_starts_b_in_one_batch(
        self, bench: Bench, order: tuple[str, ...]
    ) -> None:
        """Items are judged one after the other: each outcome follows from the order in the batch, nothing else."""
        a, b, c = [await bench.waiting(name, f"{name}-1") for name in "abc"]
        items = {
            "signal": step(a, sends=(signal(2, "b", "k"),)),
            "close": done(b),
            "start": step(c, children=(child(2, new("b", "b-2")),)),
        }
        verdicts = dict(zip(order, await bench.commit(*(items[name] for name in order)), strict=True))
        before = {name: order.index(name) for name in order}
        signal_first = before["signal"] < before["close"]
        closed, started = not signal_first, not signal_first and before["close"] < before["start"]
        assert isinstance(verdicts["signal"], Accepted) and isinstance(verdicts["start"], Accepted)
        assert type(verdicts["close"]).__name__ == ("Accepted" if closed else "MoreMessages")
        assert (await bench.view("b", "b-1")).state == ("completed" if closed else "running")
        assert (await bench.look("b", "b-2") is not None) == started
        assert [m.body for m in await bench.unread("c")] == ["2 started" if started else "2 taken"]
        delivered = signal_first or (started and before["start"] < before["signal"])
        assert [m.body for m in await bench.unread("a")] == ["2 delivered" if delivered else "2 finished"]
        if delivered:
            assert [m.key for m in await bench.unread("b")] == ["k"]

    @pytest.mark.parametrize(
        "order", list(itertools.permutations(("signal", "continue", "start"))), ids="-".join
    )
    async def test_a_signals_b_b_continues_and_c_starts_b_in_one_batch(
        self, bench: Bench, order: tuple[str, ...]
    ) -> None:
        a, b, c = [await bench.waiting(name, f"{name}-1") for name in "abc"]
        items = {
            "signal": step(a, sends=(signal(2, "b", "k"),)),
            "continue": continued(b, "b-2"),
            "start": step(c, children=(child(2, new("b", "b-3")),)),
        }
        verdicts = dict(zip(order, await bench.commit(*(items[name] for name in order)), strict=True))
        signal_first = order.index("signal") < order.index("continue")
        assert type(verdicts["continue"]).__name__ == ("MoreMessages" if signal_first else "Accepted")
        assert (await bench.view("b")).run_id == ("b-1" if signal_first else "b-2")
        assert [m.key for m in await bench.unread("b")] == ["k"]
        assert [m.body for m in await bench.unread("a")] == ["2 delivered"]
        assert [m.body for m in await bench.unread("c")] == ["2 taken"]

    @pytest.mark.parametrize("parent_first", [True, False])
    async def test_a_child_ends_and_its_parent_commits_in_one_batch(
        self, bench: Bench, parent_first: bool
    ) -> None:
        at = await bench.start("p")
        kid = new("c", parent=Parent(instance_id="p", run_id=at.run_id, number=2))
        await bench.commit(started := step(at, children=(child(2, kid),)))
        pair = [
            step(started, consumed=(1,), seen=1),
            done(kid, close=Close(state="completed", parent_body="end")),
        ]
        pair = pair if parent_first else pair[::-1]
        assert all(isinstance(verdict, Accepted) for verdict in await bench.commit(*pair))
        assert [m.body for m in await bench.unread("p")] == ["end"]

    async def test_many_senders_to_one_instance_in_one_batch_keep_their_order(self, bench: Bench) -> None:
        await bench.waiting("b")
        senders = [await bench.waiting(f"a{n}") for n in range(20)]
        await bench.commit(*(step(at, sends=(signal(2, "b", at.instance_id),)) for at in senders))
        assert [m.key for m in await bench.unread("b")] == [at.instance_id for at in senders]

    async def test_a_later_item_of_create_sees_the_earlier_ones(self, bench: Bench) -> None:
        items = await bench.create(
            new("a", "r1"),
            new("a", "r2"),
            new("a", "r3", if_exists="replace", replaces=ended("a")),
            new("b", "r4"),
        )
        assert items == [
            Created(run_id="r1"),
            Taken(run_id="r1", workflow="Order", state="running"),
            Created(run_id="r3"),
            Created(run_id="r4"),
        ]
        assert (await bench.view("a")).run_id == "r3"

    async def test_a_later_item_of_change_sees_the_earlier_ones(self, bench: Bench) -> None:
        await bench.start("a")
        first, second = ended("a"), ended("a")
        assert await bench.change(first, second) == [Accepted(), Finished(state="terminated")]

    async def test_a_result_given_twice_in_one_batch_counts_once(self, bench: Bench) -> None:
        await bench.scheduled("a")
        task = await bench.claim_activity()
        verdicts = await bench.finish(finished(task, body="1"), finished(task, body="2"))
        assert list(verdicts) == [Accepted(), Lost()]
        assert [m.body for m in await bench.unread("a")] == ["1"]

    async def test_a_refused_start_hurts_no_other(self, bench: Bench) -> None:
        items = await bench.create(new("a"), new("bad\x00"), new("b"), new("c", run_id="\ud800"))
        assert [type(item).__name__ for item in items] == ["Created", "Refused"] * 2
        assert (await bench.view("a")).state == (await bench.view("b")).state == "running"

    async def test_a_refused_message_hurts_no_other(self, bench: Bench) -> None:
        await bench.waiting("a")
        items = await bench.send(
            message("a", "x"), message("a", "bad\x00"), message("nobody"), message("a", "y")
        )
        assert [type(item) for item in items] == [Accepted, Refused, NotFound, Accepted]
        assert [(m.number, m.key) for m in await bench.unread("a")] == [(1, "x"), (2, "y")]

    async def test_a_refused_checkpoint_is_refused_whole_and_hurts_no_other(self, bench: Bench) -> None:
        """Its good half must not stay behind when its bad half is refused."""
        a, b, c = [await bench.waiting(name) for name in "abc"]
        bad = step(
            b,
            sends=(signal(2, "c", "from b"),),
            children=(child(3, new("kid")), child(4, new("bad\x00"))),
            status="half",
        )
        before = await bench.view("b")
        verdicts = await bench.commit(step(a), bad, step(c))
        assert [type(verdict) for verdict in verdicts] == [Accepted, Refused, Accepted]
        assert await bench.view("b") == before
        assert await bench.look("kid") is None
        assert await bench.claim() == []

    async def test_lost_races_in_a_batch_hurt_no_other(self, bench: Bench) -> None:
        positions = [await bench.waiting(f"i{n}") for n in range(10)]
        await bench.commit(*(step(at) for at in positions[::2]))
        verdicts = await bench.commit(*(step(at) for at in positions))
        assert list(verdicts) == [Lost(), Accepted()] * 5

    async def test_five_hundred_items_in_one_call_are_all_done(self, bench: Bench) -> None:
        asked = [new(f"i{n}", messages=(message(f"i{n}", "k"),)) for n in range(500)]
        assert set(map(type, await bench.create(*asked))) == {Created}
        tasks = await bench.claim(limit=500)
        assert len(tasks) == 500
        assert set(await bench.commit(*(done(task, consumed=(1,)) for task in tasks))) == {Accepted()}
        assert (await bench.store.stats()).instances["completed"] == 500
