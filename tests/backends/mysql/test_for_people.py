"""The tables as people see them: the two views, with the queries that run unchanged on PostgreSQL too."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any
from urllib.parse import unquote, urlsplit

import aiomysql
import pytest

from durable.backends.mysql import open_store
from durable.backends.records import OutboxEvent
from durable.testing.conformance import ManualClock
from durable.testing.conformance.specimens import continued, done, new, step

NEWEST = "SELECT foreign_id, created_at FROM workflow_records ORDER BY created_at DESC LIMIT 2"
BY_STATUS = (
    "SELECT foreign_id FROM workflow_records WHERE workflow_name = 'Order' AND status = 'paid' ORDER BY 1"
)
BY_STATUSES = (
    "SELECT foreign_id FROM workflow_records WHERE workflow_name = 'Order' AND status IN ('paid', 'sent') "
    "AND run_state = 'running' ORDER BY updated_at"
)
CHANGES = "SELECT run_id, updated_at FROM workflow_records WHERE foreign_id = 'c' ORDER BY updated_at"
BACKLOG = (
    "SELECT workflow_name, count(*), min(created_at), max(created_at) FROM workflow_outbox GROUP BY workflow_name "
    "ORDER BY workflow_name"
)


@pytest.fixture
async def people(mysql_url: str) -> AsyncIterator[Any]:
    """Whoever looks, in a session with another time zone and the server's own modes."""
    parts = urlsplit(mysql_url)
    connection = await aiomysql.connect(
        host=parts.hostname,
        port=parts.port,
        user=unquote(parts.username or ""),
        password=unquote(parts.password or ""),
        db=parts.path[1:],
        init_command="SET time_zone = '+05:00'",
    )
    yield connection
    connection.close()


async def ask(people: Any, query: str) -> list[tuple[Any, ...]]:
    async with people.cursor() as cursor:
        await cursor.execute(query)
        return [tuple(row) for row in await cursor.fetchall()]


def at(us: int) -> datetime:
    """2023-11-14 22:13:20 UTC, and so many microseconds."""
    return datetime(2023, 11, 14, 22, 13, 20, us)


async def test_the_queries_that_people_ask(mysql_url: str, people: Any) -> None:
    clock = ManualClock(1_700_000_000_000_000)
    store = await open_store(mysql_url, clock=clock)
    starts = []
    for name in ("a", "b", "c"):
        clock.advance(1)
        starts.append(new(name))
        await store.create([starts[-1]])
    clock.advance(1)
    event = OutboxEvent(id="e1", topic="orders", payload='{"n":1}')
    await store.commit([step(starts[0], b"x", status="paid", vars={"total": "12"}, outbox=(event,))])
    clock.advance(1)
    await store.commit(
        [step(starts[1], b"x", status="sent", outbox=(OutboxEvent(id="e2", topic="t", payload="1"),))]
    )
    clock.advance(1)
    await store.commit([continued(starts[2], "c-2")])
    await store.close()

    assert await ask(people, NEWEST) == [("c", at(6)), ("c", at(3))]
    assert await ask(people, BY_STATUS) == [("a",)]
    assert await ask(people, BY_STATUSES) == [("a",), ("b",)]
    assert sorted(await ask(people, CHANGES)) == [("c-1", at(6)), ("c-2", at(6))]
    assert await ask(people, BACKLOG) == [("Order", 2, at(4), at(5))]
    assert await ask(people, "SELECT object FROM workflow_records WHERE foreign_id = 'a'") == [
        ('{"total": "12"}',)
    ]
    assert await ask(
        people, "SELECT JSON_VALUE(object, '$.total') FROM workflow_records WHERE foreign_id = 'a'"
    ) == [("12",)]
    assert await ask(people, "SELECT id, payload, `key` FROM workflow_outbox ORDER BY id") == [
        ("e1", '{"n":1}', None),
        ("e2", "1", None),
    ]


async def test_ids_are_told_apart_by_every_byte(mysql_url: str, people: Any) -> None:
    store = await open_store(mysql_url)
    names = ["a", "A", "a ", "á", "\uff41", "a\t", "\U0001f600", "ß", "ss"]
    await store.create([new(name) for name in names])
    await store.close()
    found = await ask(people, "SELECT foreign_id FROM workflow_records")
    assert sorted(found) == sorted((name,) for name in names)


async def test_a_finished_run_says_when(mysql_url: str, people: Any) -> None:
    store = await open_store(mysql_url)
    await store.create([first := new()])
    await store.commit([done(first)])
    await store.close()
    query = "SELECT run_state, updated_at >= created_at FROM workflow_records"
    assert await ask(people, query) == [("completed", 1)]
