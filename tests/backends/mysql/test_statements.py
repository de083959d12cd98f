"""Statements and values: from the shared layer's plain SQL to what the servers take, and back as it was given."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from durable.backends.mysql import database, open_store
from durable.backends.mysql.indexes import index_of
from durable.backends.mysql.literals import json_row, literal
from durable.backends.mysql.migrating import migrations
from durable.backends.mysql.statements import Statements
from durable.backends.records import part_of
from durable.backends.sql.server import loading, outbox, run_claims
from durable.backends.sql.server.session import Culprit, Query, Wanted
from durable.backends.sql.server.tables import INBOX, MESSAGE_KEYS, ROLES, TABLES

HARD = [
    "",
    "it's",
    "a\\",
    "\\'",
    "\0",
    '"',
    "\n\r\x1a",
    "é\U0001f600",
    "a ",
    "?",
    "@now",
    "wanted.part",
    "-- x",
    "%s",
    ";",
]
texts = st.text(st.characters(exclude_categories=["Cs"]))


@pytest.fixture
async def store(mysql_url: str) -> AsyncIterator[Any]:
    store = await open_store(mysql_url)
    yield store
    await store.close()


def made(sql: str, *values: Any, wanted: Wanted | None = None) -> str:
    return Statements("shop").bound(sql, values, wanted).decode()


# --- texts of statements


def test_tables_are_named_with_their_database() -> None:
    assert made("SELECT 1 FROM @roles AS r") == "SELECT 1 FROM `shop`.`roles` AS r"


def test_the_wanted_rows_come_first_and_nothing_is_sorted_for_a_lock() -> None:
    sql = made(loading.LOCK_RUNS, wanted=loading.of_instances(["a"]))
    assert f"FROM JSON_TABLE('[[{part_of('a')},\"a\"]]', '$[*]' COLUMNS (" in sql
    assert (
        "AS wanted STRAIGHT_JOIN `shop`.`instances` AS i FORCE INDEX (PRIMARY) ON i.part = wanted.part" in sql
    )
    assert "ORDER BY" not in sql and sql.endswith("FOR UPDATE SKIP LOCKED")


def test_what_only_some_servers_take_is_said_otherwise() -> None:
    assert made("SELECT 1 FROM @roles AS r FOR UPDATE OF r SKIP LOCKED").endswith(
        "AS r FOR UPDATE SKIP LOCKED"
    )
    assert made("DELETE FROM @roles AS r WHERE r.role = ?", "x") == (
        "DELETE r FROM `shop`.`roles` AS r WHERE r.role = 'x'"
    )
    assert made("SELECT x.key AS key FROM @message_keys AS x").startswith("SELECT x.key AS `key` FROM")


def test_a_clock_stands_for_the_servers() -> None:
    assert Statements("shop", lambda: 7).bound("SELECT @now", ()) == b"SELECT 7"
    assert b"UTC_TIMESTAMP(6)" in Statements("shop").bound("SELECT @now", ())


@pytest.mark.parametrize(
    ("sql", "table", "alias", "index"),
    [
        (run_claims.READY, "instances", "i", "instances_claimable"),
        (run_claims.OWN, "instances", "i", "instances_leased"),
        (run_claims.OVERDUE, "instances", "i", "instances_overdue"),
        (run_claims.RETRYABLE, "instances", "i", "instances_retryable"),
        (run_claims.STALLED_ELSEWHERE, "instances", "i", "instances_retryable"),
        (run_claims.CHILDREN_TO_CLOSE, "instances", "i", "instances_children"),
        (run_claims.CHILDREN_TO_CLOSE, "message_keys", "k", "PRIMARY"),
        (loading.LOCK_ACTIVITIES, "activities", "a", "PRIMARY"),
        (outbox.NAMED, "outbox", "o", "outbox_id"),
        (outbox.FREE, "outbox", "o", "outbox_order"),
        ("SELECT i.retryable_at_us FROM @instances AS i WHERE i.state = ?", "instances", "i", None),
    ],
)
def test_each_table_is_read_by_the_index_that_its_condition_leads(
    sql: str, table: str, alias: str, index: str | None
) -> None:
    assert index_of(table, alias, sql) == index


async def test_the_tables_are_those_of_the_shared_layer(store: Any) -> None:
    async with store._database.pool.link() as link:
        for table in TABLES.values():
            rows = (await link.run(f"SHOW COLUMNS FROM {table.name}".encode()))[0].rows
            assert [str(row[0]) for row in rows] == list(table.columns), table.name
            keys = (await link.run(f"SHOW INDEX FROM {table.name} WHERE Key_name = 'PRIMARY'".encode()))[
                0
            ].rows
            assert tuple(str(row[4]) for row in keys) == table.key, table.name


def test_statements_of_migrations_are_cut_where_they_end() -> None:
    words = {statement.split()[0] for migration in migrations() for statement in migration.statements}
    assert words == {"CREATE", "INSERT"}
    assert not any(";" in statement for migration in migrations() for statement in migration.statements)


# --- values


def test_what_has_no_literal_is_the_items_fault() -> None:
    for value in ("\ud800", 2**63, -(2**63) - 1):
        with pytest.raises(ValueError, match=r"surrogate|64-bit|UTF-8|Integer exceeds"):
            literal(value)
    for value in ("\ud800", 2**63):
        with pytest.raises(ValueError, match=r"surrogates|64-bit"):
            json_row([value])


async def test_a_value_that_cannot_be_kept_is_a_culprit_and_nothing_is_written(store: Any) -> None:
    async def work(session: Any) -> None:
        await session.insert(ROLES, [("kept", "w", 1)])
        await session.update(ROLES, ["worker_id"], [("w" * 5000, "kept")])

    with pytest.raises(Culprit):
        await store._database.transact(work)
    assert await store.hold_role("kept", "another", 1)


async def test_a_row_that_would_be_cut_is_not_taken_for_one_that_is_there(store: Any) -> None:
    async def work(session: Any) -> None:
        assert await session.insert(MESSAGE_KEYS, [(1, "x", "k")], if_absent=True) == 1
        assert await session.insert(MESSAGE_KEYS, [(1, "x", "k"), (1, "x", "l")], if_absent=True) == 1
        await session.insert(MESSAGE_KEYS, [(1, "x", "k" * 600)], if_absent=True)

    with pytest.raises(Culprit, match="1 of 1 rows do not fit into message_keys"):
        await store._database.transact(work)


async def test_hard_texts_come_back_as_they_were_by_every_way(store: Any) -> None:
    await _round_trip(store, HARD)


async def test_any_text_comes_back_as_it_was_by_every_way(store: Any) -> None:
    found: list[list[str]] = []

    @settings(max_examples=60, database=None)
    @given(st.lists(texts, min_size=1, max_size=8))
    def collect(some: list[str]) -> None:
        found.append(some)

    collect()
    for some in found:
        await _round_trip(store, some)


async def _round_trip(store: Any, some: list[str]) -> None:
    """As parameters, as wanted rows, in rows that are inserted, and in rows that are updated."""

    class Undo(Exception):
        pass

    async def work(session: Any) -> None:
        marks = ", ".join("?" * len(some))
        assert await session.fetch(f"SELECT {marks}", *some) == [tuple(some)]
        wanted = Wanted({"n": "int", "text": "text"}, [(n, text) for n, text in enumerate(some)])
        rows = await session.fetch_wanted("SELECT wanted.n, wanted.text FROM @wanted", wanted)
        assert rows == list(wanted.rows)
        each = await session.fetch_union([Query("SELECT wanted.n, wanted.text", (), wanted)])
        assert sorted(each) == list(wanted.rows)
        new = [(1, "x", n, None, "k", "kind", text, 0) for n, text in enumerate(some)]
        assert await session.insert(INBOX, new) == len(some)
        kept = "SELECT m.body FROM @inbox AS m WHERE m.part = 1 AND m.instance_id = 'x' ORDER BY m.number"
        assert [body for (body,) in await session.fetch(kept)] == some
        turned = [(text, 1, "x", n) for n, text in enumerate(reversed(some))]
        assert await session.update(INBOX, ["body"], turned) == len(some)
        assert [body for (body,) in await session.fetch(kept)] == some[::-1]
        raise Undo

    with pytest.raises(Undo):
        await store._database.transact(work)


async def test_rows_beyond_a_packet_go_in_several(store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(session: Any) -> tuple[int, int]:
        session.link.max_packet = 64 * 1024
        new = [(1, "x", n, None, "k", "kind", "b" * 10_000, 0) for n in range(20)]
        inserted = await session.insert(INBOX, new)
        return inserted, await session.update(INBOX, ["body"], [("c" * 10_000, 1, "x", n) for n in range(20)])

    monkeypatch.setattr(database, "BEGIN", b"START TRANSACTION;")
    assert await store._database.transact(work) == (20, 20)
