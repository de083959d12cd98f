"""A private PgBouncer in transaction mode before a server."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from asyncio.subprocess import DEVNULL
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urlsplit, urlunsplit

import pytest

from durable.testing import servers
from durable.testing.servers.keeper import _free_port
from durable.testing.servers.plan import service_user

ADVICE = "no pgbouncer (Debian, Ubuntu: apt-get install pgbouncer; macOS: brew install pgbouncer)"
CONNECTIONS = 4
"""To the server; fewer than the stores of a test have to PgBouncer, so that they share them."""


@asynccontextmanager
async def bounced(url: str) -> AsyncIterator[str]:
    """The URL of the same database through PgBouncer, without options."""
    program = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin:/usr/local/sbin")
    if program is None:
        if servers.required("pgbouncer"):
            pytest.fail(ADVICE, pytrace=False)
        pytest.skip(ADVICE)
    parts = urlsplit(url)
    port = _free_port()
    with TemporaryDirectory() as name:
        settings = _written(Path(name), url, port)
        process = await asyncio.create_subprocess_exec(
            program, str(settings), stdout=DEVNULL, stderr=DEVNULL, user=service_user("postgres")
        )
        try:
            await _until_it_answers(port)
            yield urlunsplit(parts._replace(netloc=f"{parts.username}:{parts.password}@127.0.0.1:{port}"))
        finally:
            process.kill()
            await process.wait()


def _written(folder: Path, url: str, port: int) -> Path:
    folder.chmod(0o755)  # PgBouncer refuses to be root's
    parts = urlsplit(url)
    (folder / "users.txt").write_text(f'"{parts.username}" "{parts.password}"\n')
    settings = folder / "pgbouncer.ini"
    settings.write_text(
        f"[databases]\n* = host={parts.hostname} port={parts.port}\n"
        f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n"
        f"auth_type = plain\nauth_file = {folder}/users.txt\n"
        f"pool_mode = transaction\ndefault_pool_size = {CONNECTIONS}\n"
    )
    return settings


async def _until_it_answers(port: int) -> None:
    async with asyncio.timeout(10):
        while True:
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.close()
                return
            await asyncio.sleep(0.01)  # another process: there is nothing else to wait on
