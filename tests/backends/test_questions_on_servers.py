"""Questions that are for others, and that they never claim, are in nobody's way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from durable.backends import mysql, postgres
from durable.backends.records import InstanceRef, Question
from durable.backends.sql.server import questions
from durable.testing.conformance.specimens import claimant, new

LEASE_US = 60_000_000


@pytest.fixture(params=["postgres", "mysql"])
def url(request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue(f"{request.param}_url"))


@pytest.fixture
async def store(url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Any]:
    monkeypatch.setattr(questions, "LOOK_AT_MOST", 2)
    opened = await (postgres if url.startswith("postgres") else mysql).open_store(url)
    yield opened
    await opened.close()


def _questions(instance_id: str, count: int) -> list[Question]:
    ref = InstanceRef(instance_id=instance_id)
    return [
        Question(id=f"{instance_id}{n}", ref=ref, name="n", body="", timeout_us=LEASE_US)
        for n in range(count)
    ]


async def _claimed(store: Any, worker_id: str, limit: int) -> list[str]:
    answer = await store.claim_questions(claimant(worker_id, LEASE_US), limit)
    return [task.question_id for task in answer.items]


async def test_those_for_others_are_passed_over_however_many(store: Any) -> None:
    await store.create([new("a"), new("m", workflow="of others"), new("z")])
    await store.ask([*_questions("m", 5), *_questions("a", 2), *_questions("z", 2)])
    assert await _claimed(store, "w1", 3) == ["a0", "a1", "z0"]
    assert await _claimed(store, "w2", 10) == ["z1"]
    assert await _claimed(store, "w3", 10) == []


async def test_of_many_each_goes_to_one(store: Any) -> None:
    await store.create([new("a"), new("m", workflow="of others")])
    for one in (*_questions("m", 3), *_questions("a", 7)):
        await store.ask([one])
    had = await asyncio.gather(*(_claimed(store, f"w{n}", 3) for n in range(3)))
    while some := await _claimed(store, "last", 10):
        had.append(some)
    assert sorted(name for names in had for name in names) == [f"a{n}" for n in range(7)]
