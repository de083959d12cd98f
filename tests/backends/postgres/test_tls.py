"""TLS by the URL, on a server of its own whose certificate these tests make."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from durable.backends.postgres import open_store
from durable.backends.records import Created
from durable.errors import BackendError
from durable.testing import servers
from durable.testing.conformance.specimens import new

KEEP = "COPY (SELECT unnest(string_to_array($${}$$, E'\\n'))) TO PROGRAM 'umask 077 && cat > {}/{}'"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of 127.0.0.1, signed by itself; its key beside it."""
    if shutil.which("openssl") is None:
        pytest.skip("there is no openssl to make a certificate with")
    made = tmp_path_factory.mktemp("tls") / "server.crt"
    words = "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=durable -addext subjectAltName=IP:127.0.0.1"
    files = ["-keyout", str(made.with_suffix(".key")), "-out", str(made)]
    subprocess.run(["openssl", *words.split(), *files], check=True, capture_output=True)
    return made


@pytest.fixture(scope="module")
def server(certificate: Path) -> Iterator[servers.Server]:
    """Speaks TLS, to who wants it."""
    with asyncio.Runner() as runner:
        private = servers.private("postgres")
        started = runner.run(private.__aenter__())
        try:
            if not runner.run(turn_tls_on(started, certificate)):
                pytest.skip("this PostgreSQL was built without TLS")
            yield started
        finally:
            runner.run(private.__aexit__(None, None, None))


async def turn_tls_on(server: servers.Server, certificate: Path) -> bool:
    """The server writes the files itself: they have to be its own. ``False``: it was built without TLS."""
    db = await asyncpg.connect(server.url)
    if not await db.fetchval("SHOW ssl_library"):
        await db.close()
        return False
    folder = await db.fetchval("SHOW data_directory")
    for file in (certificate, certificate.with_suffix(".key")):
        await db.execute(KEEP.format(file.read_text().strip(), folder, file.name))
    await db.execute("ALTER SYSTEM SET ssl = on")
    await db.execute("SELECT pg_reload_conf()")
    while await db.fetchval("SHOW ssl") != "on":
        pass
    await db.close()
    return True


@pytest.fixture
async def url(server: servers.Server) -> AsyncIterator[str]:
    async with server.database() as url:
        yield url


async def is_encrypted(store: Any) -> bool:
    """Whether the connection is that looks, after something was written."""
    assert [type(one) for one in (await store.create([new()])).items] == [Created]
    rows = await store._database.read(
        lambda session: session.fetch("SELECT ssl::int FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
    )
    return bool(rows[0][0])


@pytest.mark.parametrize(("mode", "encrypted"), [("disable", False), ("prefer", True), ("require", True)])
async def test_the_mode_says_whether_it_is_encrypted(url: str, mode: str, encrypted: bool) -> None:
    store = await open_store(f"{url}?sslmode={mode}")
    assert await is_encrypted(store) is encrypted
    await store.close()


@pytest.mark.parametrize("mode", ["", "&sslmode=verify-ca", "&sslmode=verify-full"])
async def test_a_certificate_that_is_known_is_accepted(url: str, certificate: Path, mode: str) -> None:
    store = await open_store(f"{url}?sslrootcert={certificate}{mode}")
    assert await is_encrypted(store)
    await store.close()


async def test_a_certificate_of_nobody_is_refused_where_it_is_verified(url: str) -> None:
    with pytest.raises(BackendError, match="certificate") as caught:
        await open_store(f"{url}?sslmode=verify-full")
    assert "\n" not in str(caught.value)


async def test_the_name_of_another_host_is_refused_where_it_is_verified(url: str, certificate: Path) -> None:
    other = url.replace("127.0.0.1", "localhost")
    with pytest.raises(BackendError, match="localhost"):
        await open_store(f"{other}?sslrootcert={certificate}")
    store = await open_store(f"{other}?sslrootcert={certificate}&sslmode=verify-ca")
    assert await is_encrypted(store)
    await store.close()


async def test_a_server_without_tls_is_refused_where_it_is_required(postgres_url: str) -> None:
    with pytest.raises(BackendError, match=r"SSL|TLS"):
        await open_store(f"{postgres_url}?sslmode=require")
