"""Laws of names: byte for byte, within limits, and refused at the door if some store could not keep them (I31, I32)."""

from __future__ import annotations

from typing import Any

import pytest

from durable.backends.records import (
    MAX_ID_BYTES,
    MAX_TAGS,
    Accepted,
    Created,
    Definition,
    NewInstance,
    Refused,
)
from durable.testing.conformance.bench import Bench
from durable.testing.conformance.laws import Laws
from durable.testing.conformance.specimens import message, new, step

# Pairs that some collation takes for one.
ALIKE = [
    ("A", "a"),
    ("x", "x "),
    ("x", "x\t"),
    ("x", " x"),
    ("caf\u00e9", "cafe\u0301"),
    ("cafe", "caf\u00e9"),
    ("stra\u00dfe", "strasse"),
    ("\u0130", "i\u0307"),
    ("\u00e6", "ae"),
    ("\u212b", "\u00c5"),
    ("\U0001f600", "\U0001f601"),
    ("1", "\uff11"),
    ("a\u200b", "a"),
    ("a_b", "axb"),
    ("a%", "a%%"),
    ("x'", "x''"),
    ("x\\", "x\\\\"),
    ("x:y{z}*\n", "x:y{z}*"),
]
NOT_TEXT = ["a\x00b", "\x00", "\ud800", "a\udfffb"]
LONGEST = "\u00e9" * (MAX_ID_BYTES // 2)


def twins(one: str, other: str) -> tuple[NewInstance, NewInstance]:
    """Two runs with these ids, and run ids that are alike too."""
    return new(one, "r" + one), new(other, "r" + other)


class IdentityLaws(Laws):
    """Ids, names, keys, tags and status."""

    @pytest.mark.parametrize(("one", "other"), ALIKE)
    async def test_ids_that_look_alike_are_different(self, bench: Bench, one: str, other: str) -> None:
        first, second = twins(one, other)
        assert await bench.create(first, second) == [
            Created(run_id=first.run_id),
            Created(run_id=second.run_id),
        ]
        await bench.commit(step(first, b"first", status=one), step(second, b"second", status=other))
        assert (await bench.view(one)).status == one
        assert (await bench.view(other)).status == other
        assert await bench.history(one, first.run_id) == (b"started", b"first")
        assert await bench.history(one, second.run_id) == ()

    @pytest.mark.parametrize(("one", "other"), ALIKE)
    async def test_keys_that_look_alike_are_different(self, bench: Bench, one: str, other: str) -> None:
        await bench.waiting("a")
        await bench.send(message("a", one), message("a", other))
        assert [m.key for m in await bench.unread("a")] == [one, other]

    @pytest.mark.parametrize(("one", "other"), ALIKE)
    async def test_workflows_and_queues_that_look_alike_are_different(
        self, bench: Bench, one: str, other: str
    ) -> None:
        await bench.start("a", workflow=one, queue=one)
        theirs = (Definition(workflow=other),)
        assert await bench.claim(workflows=theirs, queues=(one,)) == []
        mine = (Definition(workflow=one),)
        assert await bench.claim(workflows=mine, queues=(other,)) == []
        assert len(await bench.claim(workflows=mine, queues=(one,))) == 1

    async def test_any_text_comes_back_as_it_was(self, bench: Bench) -> None:
        text = "\u00fc\U0001f600\u202e '\";--%_\\\n\t\x7f\x01"
        await bench.start(text, text, tags={text: text}, version=text)
        view = await bench.view(text)
        assert (view.instance_id, view.run_id, view.version, view.tags) == (text, text, text, {text: text})

    @pytest.mark.parametrize("text", NOT_TEXT)
    @pytest.mark.parametrize(
        "field", ["instance_id", "run_id", "workflow", "queue", "version", "tag", "tag value"]
    )
    async def test_nul_and_lone_surrogates_in_names_are_refused(
        self, bench: Bench, field: str, text: str
    ) -> None:
        fields: dict[str, Any] = {"instance_id": "a", "run_id": "r1"}
        fields |= {"tag": {"tags": {text: "1"}}, "tag value": {"tags": {"t": text}}}.get(field, {field: text})
        (item,) = await bench.create(new(**fields))
        assert isinstance(item, Refused)
        assert "\n" not in item.reason and "\x00" not in item.reason
        assert (await bench.store.stats()).instances.get("running", 0) == 0

    @pytest.mark.parametrize("text", NOT_TEXT)
    async def test_nul_and_lone_surrogates_in_keys_and_status_are_refused(
        self, bench: Bench, text: str
    ) -> None:
        at = await bench.waiting("a")
        (sent,) = await bench.send(message("a", text))
        (committed,) = await bench.commit(step(at, status=text))
        assert isinstance(sent, Refused) and isinstance(committed, Refused)
        assert await bench.claim() == []
        assert (await bench.view("a")).head == at.new_head

    async def test_payloads_keep_nul_and_refuse_lone_surrogates(self, bench: Bench) -> None:
        await bench.waiting("a")
        first, second = await bench.send(message("a", body="\x00"), message("a", body="\ud800"))
        assert first == Accepted()
        assert isinstance(second, Refused)
        assert [m.body for m in await bench.unread("a")] == ["\x00"]

    async def test_ids_and_keys_may_have_512_bytes_and_not_one_more(self, bench: Bench) -> None:
        assert len(LONGEST.encode()) == MAX_ID_BYTES
        for text in (LONGEST[1:], LONGEST):
            await bench.waiting(text, text)
            assert await bench.send(message(text, text)) == [Accepted()]
            assert [m.key for m in await bench.unread(text)] == [text]
        over = LONGEST + "x"
        (created,) = await bench.create(new(over, "r1"))
        (with_run,) = await bench.create(new("b", over))
        (sent,) = await bench.send(message(LONGEST, over))
        assert [type(each) for each in (created, with_run, sent)] == [Refused] * 3
        assert str(MAX_ID_BYTES) in created.reason

    async def test_there_may_be_64_tags_and_not_one_more(self, bench: Bench) -> None:
        for count in (MAX_TAGS - 1, MAX_TAGS):
            tags = {f"t{n}": str(n) for n in range(count)}
            await bench.start(f"i{count}", tags=tags)
            assert (await bench.view(f"i{count}")).tags == tags
        (item,) = await bench.create(new("over", tags={f"t{n}": "" for n in range(MAX_TAGS + 1)}))
        assert isinstance(item, Refused)

    async def test_events_and_texts_may_be_large(self, bench: Bench) -> None:
        event, text = bytes(range(256)) * 8_192, '"\u00e9"' * 500_000
        at = await bench.waiting("a", run_id="r1", vars={"x": text})
        await bench.commit(step(at, event))
        assert (await bench.history("a", "r1"))[-1] == event
        assert (await bench.view("a")).vars["x"] == text

    async def test_numbers_beyond_32_bits_and_the_year_9999_are_kept(self, bench: Bench) -> None:
        far = 253_402_300_799_999_999
        await bench.waiting("a", wake_at_us=far)
        assert (await bench.claim_answer()).next_wake_us == far
