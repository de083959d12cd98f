"""What this release does with a run that a newer one wrote. (With processes of both: tests/processes/releases.)"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson
import pytest

import durable
from durable.backends.records import Head, NewInstance, Stall
from durable.client import Client
from durable.core import release
from durable.core.ids import first_token
from durable.worker import parts, upkeep
from tests.worker.stores import Store, connected, until

RUN_ID = "01a2024d7f314a3d3c6553ee4abaf314"


@durable.workflow
async def talk() -> str:
    @durable.query
    def hello() -> str:
        return "hello"

    return hello()


async def written_by_a_newer_release(client: Client) -> durable.Instance[Any]:
    event = {
        "kind": "run_started",
        "time": 1,
        "workflow": "talk",
        "args": "[]",
        "queue": "default",
        "format": 2,
    }
    new = NewInstance(
        instance_id="newer",
        run_id=RUN_ID,
        workflow="talk",
        queue="default",
        events=(orjson.dumps(event),),
        head=Head(number=1, token=first_token(RUN_ID)),
    )
    await client.store.create([new])
    return client.get_instance("newer")


def keep_stalls(store: Store) -> list[Stall]:
    stalls: list[Stall] = []

    async def change(real: Any, items: Sequence[Any]) -> Any:
        stalls.extend(item for item in items if isinstance(item, Stall))
        return await real(items)

    store.hooks["change"] = change
    return stalls


async def test_it_is_left_as_it_is_with_a_word_what_to_do(caplog: pytest.LogCaptureFixture) -> None:
    async with connected() as (client, store):
        instance = await written_by_a_newer_release(client)
        before, stalls = await client.export_history("newer"), keep_stalls(store)
        async with durable.Worker(client, [talk]):
            await until(lambda: stalls, "stalling")
        found = await instance.describe()
        assert found.state == "stalled"
        assert found.problem is not None
        assert found.problem.message == (
            "an event 'run_started' of format 2; this release knows 1 at most. "
            "A worker of a newer release is needed"
        )
        assert (await client.export_history("newer")).splitlines()[1:] == before.splitlines()[1:]


async def test_it_is_tried_again_soon_then_ever_more_seldom(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(
        upkeep, "STALLED_EVERY_SECONDS", 0.005
    )  # an outdated worker looks no oftener than that
    async with connected() as (client, store):
        await written_by_a_newer_release(client)
        stalls = keep_stalls(store)
        monkeypatch.setattr(upkeep, "STALLED_EVERY_SECONDS_WHEN_NEW", 0.1)
        async with durable.Worker(client, [talk]):
            for number in range(1, 15):
                await until(lambda number=number: len(stalls) == number, "stalling")  # type: ignore[misc]
                store.skip(stalls[-1].retry_after_us / 1e6)
        assert [stall.retry_after_us / 1e6 for stall in stalls[:4]] == [1, 2, 4, 8]
        assert stalls[-1].retry_after_us == 3600e6


async def test_a_worker_of_another_release_takes_it_up_at_its_start(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with connected() as (client, store):
        await written_by_a_newer_release(client)
        stalls = keep_stalls(store)
        async with durable.Worker(client, [talk]):
            await until(lambda: stalls, "stalling")
        async with durable.Worker(client, [talk]):
            await until(lambda: "claim_stalled_tasks" in store.calls, "looking")
        assert len(stalls) == 1  # it has no other code
        monkeypatch.setattr(parts, "RELEASE", release.RELEASE + ".1")
        async with durable.Worker(client, [talk]):
            await until(lambda: len(stalls) == 2, "trying")


async def test_a_query_of_it_waits_for_a_worker_that_can_answer(caplog: pytest.LogCaptureFixture) -> None:
    async with connected() as (client, _):
        instance = await written_by_a_newer_release(client)
        async with durable.Worker(client, [talk]):
            with pytest.raises(TimeoutError):
                await instance.query("hello", timeout=0.5)
