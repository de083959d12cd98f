"""An ended run's children: all of them are closed soon, however many, and one that cannot be had is no busy loop."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import Any

import pytest

import durable
from durable.backends.memory import work
from durable.backends.records import Busy, Full
from durable.client import verdicts
from durable.client.client import Client
from tests.worker.stores import Store, connected, until

LEASE_SECONDS = 15.0


@durable.workflow
async def waits() -> None:
    await durable.Signal("go", int).receive()


@durable.workflow
async def leaves(children: int, policy: Any) -> None:
    for n in range(children):
        await durable.start(waits, id=f"child-{n}", parent_close=policy).started()


@pytest.fixture
async def both(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[Client, Store]]:
    monkeypatch.setattr(verdicts, "BUSY_SECONDS", 0.0)
    monkeypatch.setattr(work, "CHILDREN_AT_ONCE", 2)
    async with connected() as found:
        yield found


async def _is(client: Client, instance_id: str, state: str) -> bool:
    return (await client.get_instance(instance_id).describe()).state == state


async def _none_runs(client: Client) -> bool:
    return not (await client.stats()).instances.get("running")


@pytest.mark.parametrize("policy", ["terminate", "cancel"])
async def test_all_of_many_children_are_closed_at_once(both: tuple[Client, Store], policy: str) -> None:
    """And not as many as one look gives in each life of a lease."""
    client, _ = both
    async with durable.Worker(client, [leaves, waits], lease=LEASE_SECONDS):
        await (await client.create_instance(leaves, 7, policy)).result(timeout=10)
        await until(lambda: _none_runs(client), "the end of the last child")


async def test_a_child_that_is_held_for_a_moment_is_asked_again(both: tuple[Client, Store]) -> None:
    client, store = both
    held = [True, True, False]

    async def change(real: Any, changes: Sequence[Any]) -> Any:
        if held.pop():
            return replace(await real([]), items=[Busy() for _ in changes])
        return await real(changes)

    held.reverse()
    store.hooks["change"] = change
    async with durable.Worker(client, [leaves, waits], lease=LEASE_SECONDS):
        await (await client.create_instance(leaves, 1, "terminate")).result(timeout=10)
        await until(lambda: _is(client, "child-0", "terminated"), "the end of the child")
    assert store.calls.count("change") == 3


@pytest.mark.parametrize(
    ("policy", "verdict"), [("terminate", Busy()), ("cancel", Busy()), ("cancel", Full())]
)
async def test_a_child_that_cannot_be_had_is_left_until_the_lease_runs_out(
    both: tuple[Client, Store], policy: str, verdict: Any
) -> None:
    client, store = both
    call = "change" if policy == "terminate" else "send"
    held = True

    async def asked(real: Any, items: Sequence[Any]) -> Any:
        if held:
            return replace(await real([]), items=[verdict for _ in items])
        return await real(items)

    store.hooks[call] = asked
    async with durable.Worker(client, [leaves, waits], lease=LEASE_SECONDS):
        await (await client.create_instance(leaves, 1, policy)).result(timeout=10)
        tries = verdicts.BUSY_ATTEMPTS if isinstance(verdict, Busy) else 1
        await until(lambda: store.calls.count(call) == tries, "that it is asked")
        looks = store.calls.count("claim_workflow_tasks")
        await until(lambda: store.calls.count("claim_workflow_tasks") > looks + 3, "some claims more")
        assert store.calls.count(call) == tries and "close_done" not in store.calls
        held = False
        store.skip(LEASE_SECONDS + 1)
        await until(lambda: _none_runs(client), "the end of the child")
