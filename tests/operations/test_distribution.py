"""What is said to a distributed PostgreSQL. There is none here: its functions are stood in for by ones that write down
that they were called, and the statements of the engine are looked at.
"""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest
from click.testing import CliRunner, Result

import durable
from durable.backends.postgres import open_store
from durable.backends.postgres.sessions import PostgresSession
from durable.backends.records import Claimant
from durable.backends.sql.server.tables import META, ROLES, TABLES
from durable.cli.main import main
from tests.operations.pages import blocks
from tests.operations.speaking import ask, connected, say

PAGE = "scale-out.md"
OF_NO_PART = {META.name, ROLES.name}
FAKES = (
    "CREATE TABLE calls (number serial, text text)",
    "CREATE TABLE pg_dist_partition (logicalrelid regclass)",
    """CREATE FUNCTION create_distributed_table(t regclass, c text, colocate_with text DEFAULT 'default')
       RETURNS void LANGUAGE sql AS $$
       INSERT INTO calls (text) VALUES (t || ' by ' || c || ' with ' || colocate_with);
       INSERT INTO pg_dist_partition VALUES (t) $$""",
    """CREATE FUNCTION create_reference_table(t regclass) RETURNS void LANGUAGE sql AS $$
       INSERT INTO calls (text) VALUES (t || ' everywhere'); INSERT INTO pg_dist_partition VALUES (t) $$""",
)


async def _ran(*words: str) -> Result:
    return await asyncio.to_thread(CliRunner().invoke, main, ["db", "distribute", *words])


async def test_every_table_is_distributed_once_beside_the_instances(postgres_url: str) -> None:
    await say(postgres_url, *FAKES)
    ran = await _ran("--url", postgres_url)
    assert ran.exit_code == 0, ran.output
    async with connected(postgres_url) as connection:
        calls = [row["text"] for row in await ask(connection, "SELECT text FROM calls ORDER BY number")]
        assert calls[0] == "instances by part with none"
        assert sorted(calls[1:]) == sorted(
            f"{name} everywhere" if name in OF_NO_PART else f'{name} by part with "public"."instances"'
            for name in TABLES
            if name != "instances"
        )
        ran = await _ran("--url", postgres_url)
        assert ran.output.endswith("0 tables distributed\n")
        assert len(await ask(connection, "SELECT 1 AS n FROM calls")) == len(TABLES)


async def test_a_dry_run_prints_the_same_and_does_nothing(postgres_url: str) -> None:
    dry = await _ran("--dry-run", "--url", postgres_url)
    async with connected(postgres_url) as connection:
        assert await ask(connection, "SELECT 1 FROM pg_tables WHERE schemaname = 'public'") == []
    await say(postgres_url, *FAKES)
    wet = await _ran("--url", postgres_url)
    assert wet.output.splitlines()[:-1] == dry.output.splitlines()
    elsewhere = await _ran("--dry-run", "--url", "postgresql://me@host/shop?schema=other")
    assert "SELECT create_distributed_table('\"other\".\"inbox\"', 'part'" in elsewhere.output


async def test_the_page_shows_what_the_command_prints() -> None:
    (shown,) = blocks(PAGE, "sql")
    ran = await _ran("--dry-run", "--url", "postgresql://shop_owner@coordinator/shop")
    assert ran.output == shown


@pytest.mark.parametrize("url", ["sqlite:///x.db", "memory://", "mysql://me:s3cret@host/shop"])
async def test_other_stores_are_refused_in_a_line(url: str) -> None:
    ran = await _ran("--url", url)
    assert (ran.exit_code, "s3cret" in ran.output) == (1, False)
    assert "cannot be distributed; postgresql:// can" in ran.output


async def test_a_server_that_cannot_do_it_is_told_in_a_line(postgres_url: str) -> None:
    ran = await _ran("--url", postgres_url)
    assert ran.exit_code == 1
    assert "the server has no function create_distributed_table; CREATE EXTENSION citus" in ran.output


# --- the statements

ANYWHERE = {
    "the claims' first look: what is due, wherever it is": r"'now'.* UNION ALL ",
    "children are found by their parent, which is elsewhere": r"\.parent_id = wanted\.instance_id",
    "old questions are looked for in all parts": r"q\.kept_until_us <= ",
    "the outbox goes in order of time": r"outbox\"? AS o (WHERE o\.lease_until_us|JOIN .* ON o\.id = )",
}
"""What looks into all parts, and why."""

change: durable.Signal[int] = durable.Signal("change", int)


@durable.activity
async def work(n: int) -> int:
    async with durable.transaction():
        return n


@durable.workflow
async def child(n: int) -> int:
    return await work(n)


@durable.workflow
async def parent(n: int, last: bool = False) -> int:
    @durable.query
    def number() -> int:
        return n

    @durable.update
    async def put(more: int) -> int:
        return more

    durable.publish("topic", n)
    durable.set_var("n", n)
    found = await asyncio.gather(work(n), child(n), child(n + 1))
    await durable.sleep(0.01)
    n += await change.receive() + sum(found)
    if not last:
        durable.continue_as_new(n, last=True)
    return n


@pytest.mark.parametrize("grouped", ["true", "false"])
async def test_every_hot_statement_names_the_part_of_every_table(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch, grouped: str
) -> None:
    texts = _record(monkeypatch)
    await _live(f"{postgres_url}?group_by_part={grouped}")
    assert len(texts) > 30, "that was no life"
    used = set()
    for text in texts:
        if reason := next((why for why, pattern in ANYWHERE.items() if re.search(pattern, text)), None):
            used.add(reason)
            assert "FOR UPDATE" not in text, f"a lock on rows in all parts: {text}"
            continue
        for name in TABLES.keys() - OF_NO_PART:
            for alias in re.findall(rf'(?<!INTO )"public"\."{name}" AS (\w+)', text):
                wanted = r"\$\d+::int" if grouped == "true" else r'\w+\."?\w+"?'
                assert re.search(rf'\b{alias}\."?part"? = {wanted}', text), f"{name} in all parts: {text}"
    assert used == set(ANYWHERE)


def _record(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    texts: set[str] = set()
    for name in ("_fetched", "_executed"):
        plain = getattr(PostgresSession, name)

        async def recorded(session: PostgresSession, text: str, parameters: Any, plain: Any = plain) -> Any:
            texts.add(text)
            return await plain(session, text, parameters)

        monkeypatch.setattr(PostgresSession, name, recorded)
    return texts


async def _live(url: str) -> None:
    async with durable.connect(url) as client, durable.Worker(client, [parent, child, work], cache_size=0):
        instances = [await client.create_instance(parent, n, id=f"p{n}") for n in range(6)]
        assert [await one.query("number") for one in instances] == list(range(6))
        assert await instances[0].update("put", 7) == 7
        for one in instances:
            await one.signal(change, 1)
            await one.signal(change, 30)
        assert [await one for one in instances] == [4 * (4 * n + 2) + 31 for n in range(6)]
        await client.get_instance("p1").delete()
    store = await open_store(url)
    somebody = Claimant(worker_id="w", token="t", lease_us=10**7, queues=(), workflows=(), activities=())
    events = (await store.claim_outbox(somebody, 100)).items
    await store.finish_outbox([one.id for one in events])
    await store.close()
