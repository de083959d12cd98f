"""What came of an activity, and the store cannot keep it: the activity fails, once, and is not run again and again."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import Any

import pytest

import durable
from durable.backends.records import ActivityFinished, ActivityOutcome, ActivityRetry, Refused
from durable.client.client import Client
from durable.core import messages
from tests.worker.stores import Store, connected, until

_runs: list[str] = []


@durable.activity(retry=durable.Retry(2, initial=0.01))
async def weigh(what: str) -> str:
    _runs.append(what)
    if what == "retried":
        raise ValueError("very long")
    return what


@durable.workflow
async def weighs(what: str) -> str:
    try:
        return await weigh(what)
    except durable.PayloadError as error:
        return str(error)


@pytest.fixture
async def both() -> AsyncIterator[tuple[Client, Store]]:
    _runs.clear()
    async with connected() as found:
        yield found


def _is_too_large(outcome: ActivityOutcome) -> bool:
    if isinstance(outcome, ActivityFinished):
        return outcome.kind == messages.ACTIVITY_COMPLETED
    return isinstance(outcome, ActivityRetry)


@pytest.mark.parametrize("what", ["finished", "retried"])
@pytest.mark.parametrize("how", ["answered", "raised"])
async def test_what_the_store_cannot_keep_is_a_failure(
    both: tuple[Client, Store], what: str, how: str
) -> None:
    client, store = both

    async def finish(real: Any, outcomes: Sequence[Any]) -> Any:
        if not any(map(_is_too_large, outcomes)):
            return await real(outcomes)
        if how == "raised":
            raise OverflowError("more than the server takes")
        return replace(await real([]), items=[Refused(reason="more than the server takes") for _ in outcomes])

    store.hooks["finish_activities"] = finish
    async with durable.Worker(client, [weighs]), durable.Worker(client, [weigh]):
        instance = await client.create_instance(weighs, what)
        told = await instance.result(timeout=10)
    assert "the store cannot keep what came of it: " in told and "more than the server takes" in told
    assert _runs == [what]
    assert await client.audit() == []


async def test_a_store_that_keeps_no_failure_either_is_asked_twice(both: tuple[Client, Store]) -> None:
    client, store = both

    async def finish(real: Any, outcomes: Sequence[Any]) -> Any:
        return replace(await real([]), items=[Refused(reason="nothing at all") for _ in outcomes])

    store.hooks["finish_activities"] = finish
    async with durable.Worker(client, [weighs]), durable.Worker(client, [weigh]):
        await client.create_instance(weighs, "finished")
        await until(lambda: store.calls.count("finish_activities") >= 2, "both outcomes")
    assert store.calls.count("finish_activities") == 2 and _runs == ["finished"]
