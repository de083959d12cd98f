"""The statements of docs/how-to/query-with-sql.md, word for word, on both kinds of server."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

import durable
from tests.operations.pages import statements
from tests.operations.speaking import ask, connected

PAGE = "query-with-sql.md"


@durable.workflow(name="order")
async def order() -> None:
    done = False

    @durable.update
    async def advance(status: str) -> None:
        nonlocal done
        durable.set_status(status)
        durable.set_var("last", status)
        durable.publish("orders", status, key="k")
        done = status == "done"

    await durable.wait_condition(lambda: done)


@durable.workflow(name="refund")
async def refund() -> None:
    durable.set_status("packed")
    durable.publish("refunds", "sent")


@pytest.fixture(params=["postgres", "mysql"])
def url(request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue(f"{request.param}_url"))


def _utc(time: datetime) -> datetime:
    """MySQL's have no zone, and are UTC."""
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)


async def _order(client: durable.Client, name: str, *statuses: str) -> durable.Instance[None]:
    handle = await client.create_instance(order, id=name)
    for status in statuses:
        await handle.update("advance", status)
    return handle


async def test_the_statements_of_the_page_give_the_same_on_both(url: str) -> None:
    newest, of_status, of_list, of_one, backlog, by_state = statements(PAGE)
    async with durable.connect(url) as client, connected(url) as people:
        async with durable.Worker(client, [order, refund]):
            first = await _order(client, "o-1", "paid", "done")
            await first
            await _order(client, "O-1", "paid")
            await _order(client, "ö'2", "paid", "packed")
            await (await client.create_instance(refund, id="r-1"))
            await (again := await client.create_instance(refund, id="o-1"))
        described = {one.run_id: one for one in (await client.list_instances()).items}

        rows = await ask(people, newest)
        assert [row["foreign_id"] for row in rows] == ["o-1", "r-1", "ö'2", "O-1", "o-1"]
        assert all(
            type(row[name]) is str for row in rows for name in ("workflow_name", "foreign_id", "run_id")
        )
        for row in rows:
            if known := described.get(row["run_id"]):
                assert (_utc(row["created_at"]), _utc(row["updated_at"])) == (
                    known.created_at,
                    known.updated_at,
                )
                assert (row["run_state"], row["status"]) == (known.state, known.status)
        assert any(_utc(row["updated_at"]).microsecond % 1000 for row in rows)

        assert [row["foreign_id"] for row in await ask(people, of_status)] == ["O-1"]
        assert [(row["foreign_id"], row["status"]) for row in await ask(people, of_list)] == [
            ("o-1", "packed"),
            ("r-1", "packed"),
            ("ö'2", "packed"),
            ("O-1", "paid"),
        ]
        assert [(row["run_id"], row["status"]) for row in await ask(people, of_one)] == [
            (first.run_id, "done"),
            (again.run_id, "packed"),
        ]
        waiting = await ask(people, backlog)
        assert [(row["workflow_name"], row["waiting"]) for row in waiting] == [("order", 5), ("refund", 2)]
        assert all(row["oldest"] < row["newest"] for row in waiting)
        assert [(*row.values(),) for row in await ask(people, by_state)] == [
            ("order", "completed", 1),
            ("order", "running", 2),
            ("refund", "completed", 2),
        ]


async def test_what_people_read_as_json_is_json(url: str) -> None:
    async with durable.connect(url) as client, connected(url) as people:
        async with durable.Worker(client, [order]):
            await _order(client, "o-1", "ü")
        function = "JSON_UNQUOTE(JSON_EXTRACT(object, '$.last'))" if "mysql" in url else "object->>'last'"
        (row,) = await ask(people, f"SELECT {function} AS last FROM workflow_records")
        assert row == {"last": '"ü"'}
        (row,) = await ask(people, "SELECT topic, payload, headers FROM workflow_outbox")
        assert (row["topic"], row["payload"], row["headers"]) == ("orders", '"ü"', "{}")
