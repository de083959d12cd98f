"""Each kind of damage that is done by hand is found by name, mended if it can be, and the run goes on: as in SQLite."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import asyncpg
import pytest

from durable.backends.contract import Backend
from durable.testing import servers
from durable.testing.conformance.bench import Bench
from tests.backends.test_sqlite_audit import KINDS, Kind
from tests.conformance.emptied_postgres import Postgres, a_database


class Database(Postgres):
    async def damage(self, store: Backend, kind: str, instance_id: str) -> None:
        connection = await asyncpg.connect(self.url)
        try:
            assert (await connection.execute(kind)).endswith(" 1"), "the damage must hit one row"
        finally:
            await connection.close()


@pytest.fixture(scope="module")
def url(postgres_server: servers.Server) -> Iterator[str]:
    yield from a_database(postgres_server)


@pytest.fixture
async def bench(url: str) -> AsyncIterator[Bench]:
    database = Database(url)
    bench = Bench(await database.open(), database)
    yield bench
    await bench.store.close()


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name.replace(" ", "_"))
async def test_damage_is_found_and_mended(bench: Bench, kind: Kind) -> None:
    await kind.before(bench)
    assert (await bench.store.audit()).items == [], "healthy before"
    await bench.under_test.damage(bench.store, kind.damage, kind.instance_id)
    for repair in (False, True):
        (found,) = (await bench.store.audit(repair=repair)).items
        assert (found.rule.split()[0], found.instance_id) == (kind.rule, kind.instance_id)
        assert (found.repairable, found.repaired) == (kind.mended, kind.mended and repair)
        assert ("; " in found.detail) == (repair and kind.rule != "I3"), "the detail says what was done"
    assert ((await bench.store.audit()).items == []) == kind.mended
    await kind.after(bench)


async def test_a_task_that_somebody_holds_is_left_for_the_next_audit(bench: Bench, url: str) -> None:
    """A claim of it holds no instance: what it has written would be undone."""
    await bench.scheduled("a")
    await bench.under_test.damage(bench.store, "UPDATE activities SET claimable_at_us = NULL", "a")
    other = await asyncpg.connect(url)
    try:
        async with other.transaction():
            await other.execute("SELECT 1 FROM activities FOR UPDATE")
            assert [one.repaired for one in (await bench.store.audit(repair=True)).items] == [False]
    finally:
        await other.close()
    assert [one.repaired for one in (await bench.store.audit(repair=True)).items] == [True]
    assert (await bench.store.audit()).items == []
