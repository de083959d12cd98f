"""Laws of the end of a run, its parent and its children (I3, I4, I22, I23)."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from durable.backends.records import (
    Accepted,
    ChildRef,
    Close,
    Closing,
    InstanceRef,
    Lost,
    MoreMessages,
    NewInstance,
    Parent,
    ParentClose,
    State,
)
from durable.testing.conformance.bench import Bench
from durable.testing.conformance.laws import Laws
from durable.testing.conformance.specimens import (
    Position,
    activity,
    child,
    done,
    ended,
    message,
    new,
    step,
)


def child_of(
    parent: Position, number: int, instance_id: str, close: ParentClose = "terminate"
) -> NewInstance:
    """A child to be made."""
    of = Parent(instance_id=parent.instance_id, run_id=parent.run_id, number=number, close=close)
    return new(instance_id, parent=of)


class ClosingLaws(Laws):
    """`Checkpoint.close`, `Checkpoint.children`, `Closing` and `close_done`."""

    @pytest.mark.parametrize(
        ("state", "texts"),
        [
            ("completed", {"result": '"\x00"'}),
            ("failed", {"failure": '{"x":1}'}),
            ("cancelled", {"failure": '{"y":1}'}),
            ("terminated", {"failure": "{}"}),
        ],
    )
    async def test_a_closed_run_shows_how_it_ended(
        self, bench: Bench, state: State, texts: dict[str, str]
    ) -> None:
        at = await bench.start("a")
        assert await bench.commit(step(at, b"end", close=Close(state=state, **texts))) == [Accepted()]
        view = await bench.view("a")
        assert view.state == state
        assert (view.result, view.failure) == (texts.get("result"), texts.get("failure"))
        assert view.closed_at_us == view.updated_at_us
        assert await bench.history("a", at.run_id) == (b"started", b"end")

    async def test_a_closed_run_never_opens_again(self, bench: Bench) -> None:
        at = done(await bench.start("a"), wake_at_us=1, activities=(activity(1),))
        await bench.commit(at)
        before = await bench.snapshot()
        assert await bench.commit(step(at), done(at)) == [Lost(), Lost()]
        await bench.send(message("a"))
        await bench.change(ended("a"))
        await bench.outlive_lease()
        assert await bench.claim() == []
        assert await bench.claim_activities() == []
        assert await bench.snapshot() == before

    async def test_a_child_is_started_and_its_parent_hears_of_it(self, bench: Bench) -> None:
        at = await bench.start("p")
        asked = child_of(at, 2, "c", "abandon")
        await bench.commit(step(at, children=(child(2, asked),)))
        view = await bench.view("c")
        assert (view.parent, view.head) == (asked.parent, asked.head)
        (got,) = await bench.unread("p")
        assert (got.kind, got.key, got.body) == ("outcome", f"outcome/{at.run_id}/2", "2 started")

    async def test_a_child_whose_id_is_taken_is_not_started_and_its_parent_hears_of_it(
        self, bench: Bench
    ) -> None:
        await bench.start("c", "theirs")
        at = await bench.start("p")
        await bench.commit(step(at, children=(child(2, child_of(at, 2, "c")),)))
        assert [m.body for m in await bench.unread("p")] == ["2 taken"]
        assert (await bench.view("c")).run_id == "theirs"

    async def test_a_repeated_checkpoint_starts_its_child_once(self, bench: Bench) -> None:
        at = await bench.start("p")
        first = step(at, children=(child(2, child_of(at, 2, "c")),))
        await bench.commit(first)
        await bench.commit(done(await bench.claim_child("c")))
        before = await bench.snapshot()
        await bench.commit(first)
        assert await bench.snapshot() == before

    async def test_a_child_that_two_parents_start_at_once_belongs_to_one(self, bench: Bench) -> None:
        parents = [await bench.start(f"p{n}") for n in range(4)]
        kids = [replace(child_of(at, 2, "c"), run_id=f"c of {at.instance_id}") for at in parents]
        checkpoints = [step(at, children=(child(2, kid),)) for at, kid in zip(parents, kids, strict=True)]
        await asyncio.gather(*(bench.commit_until_judged(one) for one in checkpoints))
        bodies = [m.body for at in parents for m in await bench.unread(at.instance_id)]
        assert sorted(bodies) == ["2 started", "2 taken", "2 taken", "2 taken"]

    async def test_the_parent_hears_once_how_its_child_ended(self, bench: Bench) -> None:
        at, kid = await self.parent_and_child(bench)
        close = Close(state="completed", result="1", parent_body='{"number":2}')
        end = done(kid, close=close)
        await bench.commit(end)
        await bench.commit(end)
        (got,) = await bench.unread("p")
        assert (got.kind, got.key, got.body) == ("child_closed", f"closed/{kid.run_id}", '{"number":2}')
        assert await bench.commit(step(at, consumed=(got.number,), seen=got.number)) == [Accepted()]
        await bench.commit(end)
        assert await bench.claim() == []

    async def test_the_parent_hears_of_a_child_that_was_ended_from_outside(self, bench: Bench) -> None:
        await self.parent_and_child(bench)
        await bench.change(ended("c", close=Close(state="terminated", parent_body="gone")))
        assert [(m.kind, m.body) for m in await bench.unread("p")] == [("child_closed", "gone")]

    async def test_cancelling_and_completing_at_once_give_one_end(self, bench: Bench) -> None:
        for n in range(10):
            at = await bench.start(f"i{n}")
            await asyncio.gather(bench.commit(done(at)), bench.change(ended(at.instance_id)))
            assert len(await bench.history(at.instance_id, at.run_id)) == 2
            last = (await bench.history(at.instance_id, at.run_id))[-1]
            expected = {b"completed": "completed", b"terminated": "terminated"}[last]
            assert (await bench.view(at.instance_id)).state == expected

    async def parent_and_child(
        self, bench: Bench, close: ParentClose = "terminate"
    ) -> tuple[Any, NewInstance]:
        """A parent that has heard that its child ``c`` was started, and waits; the child waits too."""
        at = await bench.start("p")
        kid = child_of(at, 2, "c", close)
        await bench.commit(started := step(at, children=(child(2, kid),)))
        waiting = step(started, consumed=(1,), seen=1)
        assert await bench.commit(waiting) == [Accepted()]
        first = step(kid)
        await bench.commit(first)
        return waiting, new(kid.instance_id, kid.run_id, head=first.new_head, parent=kid.parent)

    async def test_a_child_ends_after_its_parent_without_harm(self, bench: Bench) -> None:
        at, kid = await self.parent_and_child(bench, "abandon")
        await bench.commit(done(at))
        assert await bench.commit(done(kid, close=Close(state="completed", parent_body="1"))) == [Accepted()]
        assert await bench.claim_closings() == []

    async def test_the_children_of_an_ended_run_are_handed_to_any_worker(self, bench: Bench) -> None:
        """It needs no code of the workflow: the worker ends the children by `End`, or asks them to cancel."""
        at = await bench.start("p")
        kids = [child_of(at, n, f"c{n}", "cancel" if n == 2 else "terminate") for n in (1, 2, 3)]
        kids.append(child_of(at, 4, "c4", "abandon"))
        starts = tuple(child(n, kid) for n, kid in enumerate(kids, 1))
        await bench.commit(started := step(at, children=starts))
        await bench.commit(done(started, consumed=(1, 2, 3, 4), seen=4))
        closing = await bench.store.claim_workflow_tasks(
            bench.claimant(workflows=(), activities=(), queues=("other",)), 10
        )
        refs = tuple(
            ChildRef(instance_id=f"c{n}", run_id=f"c{n}-1", close="cancel" if n == 2 else "terminate")
            for n in (1, 2, 3)
        )
        assert list(closing.items) == [Closing(instance_id="p", run_id=at.run_id, children=refs, more=False)]
        assert await bench.claim_closings("w2") == []

    async def test_a_closing_comes_back_until_its_children_are_closed(self, bench: Bench) -> None:
        at, kid = await self.parent_and_child(bench)
        await bench.commit(done(at))
        (closing,) = await bench.claim_closings("w1")
        await bench.outlive_lease()
        assert await bench.claim_closings("w2") == [closing], "the closer crashed"
        assert list((await bench.store.close_done([closing])).items) == [Accepted()]
        await bench.outlive_lease()
        assert await bench.claim_closings("w3") == [closing], "there is still a child"
        await bench.change(ended("c"))
        assert list((await bench.store.close_done([closing, closing])).items) == [Accepted(), Accepted()]
        await bench.outlive_lease()
        assert await bench.claim_closings("w4") == []
        assert (await bench.view("c", kid.run_id)).state == "terminated"

    async def test_a_child_that_was_asked_to_cancel_needs_nothing_more(self, bench: Bench) -> None:
        at, _ = await self.parent_and_child(bench, "cancel")
        await bench.commit(done(at))
        (closing,) = await bench.claim_closings("w1")
        cancel = message("c", f"close/{at.run_id}", kind="cancel", body="{}")
        assert await bench.send(cancel) == [Accepted()]
        await bench.store.close_done([closing])
        assert [m.key for m in await bench.unread("c")] == [cancel.key]
        await bench.outlive_lease()
        assert await bench.claim_closings("w2") == []

    async def test_many_children_are_handed_out_a_hundred_at_a_time(self, bench: Bench) -> None:
        at = await bench.start("p")
        kids = [child(n, child_of(at, n, f"c{n:03}")) for n in range(130)]
        await bench.commit(started := step(at, children=tuple(kids)))
        await bench.commit(done(started, consumed=tuple(range(1, 131)), seen=130))
        (closing,) = await bench.claim_closings("w1")
        assert (len(closing.children), closing.more) == (100, True)
        await bench.change(*(ended(kid.instance_id, kid.run_id) for kid in closing.children))
        await bench.store.close_done([closing])
        await bench.outlive_lease()
        (rest,) = await bench.claim_closings("w2")
        assert (len(rest.children), rest.more) == (30, False)
        assert not {kid.instance_id for kid in rest.children} & {kid.instance_id for kid in closing.children}

    async def test_ending_a_run_from_outside_closes_its_children_too(self, bench: Bench) -> None:
        await self.parent_and_child(bench)
        await bench.change(ended("p"))
        (closing,) = await bench.claim_closings()
        assert [kid.instance_id for kid in closing.children] == ["c"]

    async def test_a_run_without_children_leaves_nothing_to_close(self, bench: Bench) -> None:
        at, kid = await self.parent_and_child(bench)
        await bench.commit(done(kid, close=Close(state="completed", parent_body="1")))
        (verdict,) = await bench.commit(done(at, seen=1))
        assert isinstance(verdict, MoreMessages)
        await bench.commit(done(at, consumed=(2,), seen=2))
        assert await bench.claim_closings() == []

    async def test_children_are_listed_after_their_parent_was_forgotten(self, bench: Bench) -> None:
        at, kid = await self.parent_and_child(bench, "abandon")
        await bench.commit(done(at))
        await bench.store.delete([InstanceRef(instance_id="p")])
        views = (await bench.store.children(InstanceRef(instance_id="p"), 10)).items
        assert [view.run_id for view in views] == [kid.run_id]

    async def test_the_children_of_a_run_are_listed_oldest_first(self, bench: Bench) -> None:
        at = await bench.start("p")
        starts = tuple(child(n, child_of(at, n, name)) for n, name in ((1, "z"), (2, "a")))
        await bench.commit(step(at, children=starts))
        await bench.start("stranger")
        for ref in (InstanceRef(instance_id="p"), InstanceRef(instance_id="p", run_id=at.run_id)):
            views = (await bench.store.children(ref, 10)).items
            assert {view.instance_id for view in views} == {"z", "a"}
        assert len((await bench.store.children(InstanceRef(instance_id="p"), 1)).items) == 1
        assert list((await bench.store.children(InstanceRef(instance_id="z"), 10)).items) == []
