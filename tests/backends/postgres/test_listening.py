"""Wake-ups: what one process commits, others hear of, soon; without them, or behind PgBouncer, polling is enough."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Collection, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest

import durable
from durable.backends.postgres import open_store
from durable.backends.postgres.listening import Wire
from durable.backends.postgres.sessions import messages_of, told_by
from durable.backends.records import InstanceRef, Question
from durable.backends.wakeup import Listener
from durable.testing.conformance.specimens import activity, claimant, done, message, new, step
from durable.testing.servers.keeper import _free_port
from durable.testing.servers.plan import service_user
from tests.backends.postgres.seeds import Sent

PATIENCE_SECONDS = 5


@asynccontextmanager
async def opened(*urls: str) -> AsyncIterator[list[Any]]:
    stores = [await open_store(url) for url in urls]
    yield stores
    for store in stores:
        await store.close()


async def listening(store: Any) -> int:
    """Wait until it listens; the number of the server's process."""
    wire = store._database._wire
    async with asyncio.timeout(PATIENCE_SECONDS):
        while wire.connection is None:  # noqa: ASYNC110  (a test's look at what has no signal)
            await asyncio.sleep(0.01)
    pid: int = wire.connection.get_server_pid()
    return pid


async def hears(listener: Listener) -> bool:
    return await listener.wait(PATIENCE_SECONDS)


async def test_others_hear_of_what_is_committed(postgres_url: str) -> None:
    async with opened(postgres_url, postgres_url) as (writes, hears_it):
        for store in (writes, hears_it):
            await listening(store)
        workflow, closed = hears_it.bell.listen("workflow"), hears_it.bell.listen("closed")
        await writes.create([new()])
        assert await hears(workflow)
        assert not await closed.wait(0.05), "only what it is about is rung for"


async def test_what_is_told_is_gathered(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with opened(postgres_url, postgres_url) as (writes, hears_it):
        for store in (writes, hears_it):
            await listening(store)
        told: list[str] = []
        plain = Wire._heard

        def heard(wire: Wire, connection: Any, pid: int, channel: str, payload: object) -> None:
            if wire is hears_it._database._wire:
                told.append(str(payload))
            plain(wire, connection, pid, channel, payload)

        monkeypatch.setattr(Wire, "_heard", heard)
        listener = hears_it.bell.listen("workflow")
        for n in range(50):
            writes._database.announce({"workflow"} if n % 2 else {"activity"}, None)
        assert await hears(listener)
        assert len(told) == 0 or [one.partition(":")[2] for one in told] == ["activity,workflow"]


async def test_others_hear_which_runs_have_ended(postgres_url: str) -> None:
    names = [f"{n} 'ä\x1a,closed:{'x' * 60}" for n in range(300)]
    async with opened(postgres_url, postgres_url) as (writes, hears_it):
        for store in (writes, hears_it):
            await listening(store)
        heard = set[str]()

        def concerns(ids: Collection[str] | None) -> bool:
            assert ids is not None
            heard.update(ids)
            return True

        closed = hears_it.bell.listen("closed", concerns=concerns)
        await writes.create(at := [new(name) for name in names])
        await writes.commit([done(one) for one in at])
        while len(heard) < len(names):
            assert await hears(closed)
    assert heard == set(names)


def test_too_many_to_be_named_are_any() -> None:
    names = {f"{n}{'x' * 500}" for n in range(300)}
    messages = messages_of("me", {"closed", "workflow"}, names)
    assert [told_by(one) for one in messages] == [("me", {"closed", "workflow"}, None)]
    few = {name for name in names if name.startswith("1")}
    told = [told_by(one) for one in messages_of("me", {"closed"}, few)]
    assert set[str]().union(*(ids for _, _, ids in told if ids)) == few
    assert all(len(one) < 8_000 for one in messages_of("me", {"closed"}, few))


def test_an_earlier_release_reads_the_topics() -> None:
    (message,) = messages_of("me", {"closed", "workflow"}, {"a", "b,c"})
    origin, _, topics = message.partition(":")
    assert origin == "me" and set(topics.split(",")) >= {"closed", "workflow"}


async def test_a_listener_that_lost_its_connection_comes_back_and_rings_for_what_it_missed(
    postgres_url: str,
) -> None:
    async with opened(postgres_url, postgres_url) as (writes, hears_it):
        pid = await listening(hears_it)
        listener = hears_it.bell.listen("workflow", "activity", "question", "closed", "reply")
        other = await asyncpg.connect(postgres_url)
        await other.execute(f"SELECT pg_terminate_backend({pid})")
        await other.close()
        assert await hears(listener)
        assert await listening(hears_it) != pid
        await listening(writes)
        await writes.create([new()])
        assert await hears(listener)


async def test_in_a_callers_transaction_others_hear_when_it_is_committed(postgres_url: str) -> None:
    async with opened(postgres_url, postgres_url) as (writes, hears_it):
        await listening(hears_it)
        listener = hears_it.bell.listen("workflow")
        connection = await asyncpg.connect(postgres_url)
        async with connection.transaction():
            await writes.create_in(connection, new())
            assert not await listener.wait(0.05)
        await connection.close()
        assert await hears(listener)


async def test_schemas_do_not_wake_each_other(postgres_url: str) -> None:
    async with opened(postgres_url, f"{postgres_url}?schema=other") as (writes, other):
        for store in (writes, other):
            await listening(store)
        listener = other.bell.listen("workflow")
        await writes.create([new()])
        assert not await listener.wait(0.1)


async def test_without_wake_ups_nobody_listens(postgres_url: str) -> None:
    async with opened(f"{postgres_url}?wakeups=off") as (store,):
        await store.create([new()])
        connection = await asyncpg.connect(postgres_url)
        heard = await connection.fetch(
            "SELECT 1 FROM pg_stat_activity WHERE query LIKE 'LISTEN%' AND datname = current_database()"
        )
        await connection.close()
        assert (store._database._wire, heard) == (None, [])


async def test_a_claim_of_runs_also_finds_that_there_is_other_work(postgres_url: str) -> None:
    """So that nobody need ask for that as often, where nothing is heard."""
    url = f"{postgres_url}?wakeups=off"
    async with opened(url, url) as (writes, polls):
        activities, questions = polls.bell.listen("activity"), polls.bell.listen("question")
        first = new()
        await writes.create([first])
        await writes.commit([step(first, activities=(activity(),))])
        ref = InstanceRef(instance_id="a")
        await writes.ask([Question(id="q", ref=ref, name="n", body="", timeout_us=60_000_000)])
        await polls.claim_workflow_tasks(claimant("w1", 10_000_000, activities=("another",)), 1)
        assert await hears(questions) and not await activities.wait(0.01)
        await polls.claim_workflow_tasks(claimant("w1", 10_000_000), 1)
        assert await hears(activities)


@durable.workflow
async def greet(name: str) -> str:
    return await polite(name)


@durable.activity
async def polite(name: str) -> str:
    return f"Good day, {name}"


# --- PgBouncer


@pytest.fixture
def bouncer(postgres_url: str) -> Iterator[str]:
    """The same database through PgBouncer in transaction mode, with fewer connections than the store has."""
    if (program := shutil.which("pgbouncer")) is None:
        pytest.skip("no pgbouncer (Debian, Ubuntu: apt-get install pgbouncer)")
    split = urlsplit(postgres_url)
    port = _free_port()
    with TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "users.txt").write_text(f'"{split.username}" "{split.password or ""}"\n')
        (folder / "pgbouncer.ini").write_text(
            f"[databases]\n* = host={split.hostname} port={split.port}\n"
            f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = trust\n"
            f"auth_file = {folder}/users.txt\npool_mode = transaction\ndefault_pool_size = 3\n"
        )
        process = subprocess.Popen(
            [program, str(folder / "pgbouncer.ini")], stderr=subprocess.DEVNULL, user=service_user("postgres")
        )
        try:
            _until_it_answers(port)
            yield urlunsplit(
                split._replace(netloc=f"{split.username}:x@127.0.0.1:{port}", query="pgbouncer=true")
            )
        finally:
            process.kill()  # it may have been made to ignore SIGQUIT, like all that a shell starts in the background
            process.wait()


def _until_it_answers(port: int) -> None:
    for _ in range(500):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.01)
    pytest.fail("pgbouncer does not answer")


async def test_through_pgbouncer_calls_are_answered_as_without(bouncer: str) -> None:
    async with opened(bouncer, bouncer) as (one, other):
        await asyncio.gather(*(store.create([new(f"i{n}")]) for n in range(40) for store in (one,)))
        answers = await asyncio.gather(*(other.get([InstanceRef(instance_id=f"i{n}")]) for n in range(40)))
        assert all(answer.items[0] is not None for answer in answers)
        await other.send([message(f"i{n}") for n in range(40)])
        tasks = (await one.claim_workflow_tasks(claimant("w1", 10_000_000), 100)).items
        assert [len(task.messages) for task in tasks] == [1] * 40
        assert one._database._wire is None


async def test_through_pgbouncer_workflows_run(bouncer: str) -> None:
    async with durable.connect(f"{bouncer}&poll=0.05") as client, durable.Worker(client, [greet, polite]):
        handles = [await client.create_instance(greet, f"{n}", id=f"{n}") for n in range(20)]
        results = [await handle.result() for handle in handles]
    assert results == [f"Good day, {n}" for n in range(20)]


async def test_an_idle_worker_asks_at_most_twice_a_second(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with durable.connect(postgres_url) as client, durable.Worker(client, [greet, polite]):
        assert await (await client.create_instance(greet, "you")).result() == "Good day, you"
        await asyncio.sleep(1)  # what follows from the end of the run is over
        sent = Sent(monkeypatch)
        await asyncio.sleep(4)  # twice the longest of its intervals: wherever it begins, it has as many looks
    assert len(sent.texts) <= 8, sent.texts
