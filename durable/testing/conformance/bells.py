"""Laws of the bell: whoever waits in the process that writes is woken. A lost ring breaks nothing, for polling does."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection

import pytest

from durable.backends.records import InstanceRef, Pause, Question, Reply, Resume
from durable.backends.wakeup import Topic
from durable.testing.conformance.bench import Bench
from durable.testing.conformance.laws import Laws
from durable.testing.conformance.specimens import activity, done, ended, finished, message, step

Deed = Callable[[Bench], Awaitable[object]]
LONGEST_WAIT_SECONDS = 5.0


async def _start(bench: Bench) -> object:
    return await bench.start("b")


async def _send(bench: Bench) -> object:
    return await bench.send(message("a"))


async def _finish_activity(bench: Bench) -> object:
    return await bench.finish(finished(await bench.claim_activity()))


async def _resume(bench: Bench) -> object:
    await bench.change(Pause(ref=InstanceRef(instance_id="a")))
    return await bench.change(Resume(ref=InstanceRef(instance_id="a")))


async def _schedule(bench: Bench) -> object:
    return await bench.commit(step(await bench.start("b"), activities=(activity(1),)))


async def _close(bench: Bench) -> object:
    return await bench.commit(done(await bench.start("b")))


async def _end(bench: Bench) -> object:
    return await bench.change(ended("a"))


async def _ask(bench: Bench) -> object:
    ref = InstanceRef(instance_id="a")
    return await bench.store.ask([Question(id="q", ref=ref, name="n", body="", timeout_us=60_000_000)])


async def _answer(bench: Bench) -> object:
    ref = InstanceRef(instance_id="a")
    await bench.store.ask([Question(id="q", ref=ref, name="n", body="", timeout_us=60_000_000)])
    return await bench.store.answer([Reply(id="q", instance_id="a", body="1")])


DEEDS: list[tuple[Topic, Deed]] = [
    ("workflow", _start),
    ("workflow", _send),
    ("workflow", _finish_activity),
    ("workflow", _resume),
    ("activity", _schedule),
    ("closed", _close),
    ("closed", _end),
    ("question", _ask),
    ("reply", _answer),
]


class BellLaws(Laws):
    """`Backend.bell`."""

    @pytest.mark.parametrize(("topic", "deed"), DEEDS, ids=lambda each: getattr(each, "__name__", each))
    async def test_who_waits_is_woken(self, bench: Bench, topic: Topic, deed: Deed) -> None:
        await bench.scheduled("a")
        listener = bench.store.bell.listen(topic)
        try:
            await deed(bench)
            assert await listener.wait(LONGEST_WAIT_SECONDS)
        finally:
            listener.close()

    @pytest.mark.parametrize("deed", [_close, _end], ids=["closed by its code", "ended from outside"])
    async def test_the_ring_for_a_run_that_ended_names_its_instance(self, bench: Bench, deed: Deed) -> None:
        await bench.scheduled("a")
        heard: list[Collection[str] | None] = []

        def concerns(ids: Collection[str] | None) -> bool:
            heard.append(ids)
            return True

        listener = bench.store.bell.listen("closed", concerns=concerns)
        try:
            await deed(bench)
            assert await listener.wait(LONGEST_WAIT_SECONDS)
            assert [None if ids is None else set(ids) for ids in heard] in ([{"a"}], [{"b"}])
        finally:
            listener.close()
