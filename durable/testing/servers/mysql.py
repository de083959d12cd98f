"""MariaDB or MySQL for tests: where it may come from, and how it is started. Its databases are made by `server`."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
from collections.abc import Iterator

from durable.testing.servers import docker
from durable.testing.servers.plan import Plan, service_user

ADVICE = (
    "install one (Debian, Ubuntu: apt-get install mariadb-server; macOS: brew install mariadb), or start Docker, or"
    " set DURABLE_TEST_MYSQL_URL=mysql://user:password@host/database"
)
IMAGE = "mariadb:11.4"

# No character set is chosen: the installation's own may be latin1, and the engine must say what it needs by itself.
_SETTINGS = (
    "--bind-address=127.0.0.1",
    "--max-connections=400",
    "--skip-name-resolve",
    "--skip-log-bin",
    "--performance-schema=OFF",
    "--innodb-buffer-pool-size=128M",
)
_MARIADB = ("--innodb-flush-method=nosync",)
# MySQL has no way to leave the flush to the system at each commit alone; this loses a second with the machine only.
_MYSQL = ("--innodb-flush-log-at-trx-commit=2",)


def plans(sources: tuple[str, ...], *, durable: bool) -> Iterator[Plan]:
    """What there is on this machine, in the order of ``sources``."""
    found = {"installed": installed, "docker": container}
    for source in sources:
        plan = found[source](durable=durable) if source in found else None
        if plan is not None:
            yield plan


def installed(*, durable: bool) -> Plan | None:
    """The machine's own: MariaDB if it has both."""
    server, install = _program("mariadbd"), _program("mariadb-install-db")
    if server is not None and install is not None:
        return _mariadb(server, install, durable=durable)
    server = _program("mysqld")
    return _mysql(server, durable=durable) if server is not None and _is_mysql(server) else None


def _program(name: str) -> str | None:
    places = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin", "/usr/libexec"))
    return shutil.which(name, path=places)


def _is_mysql(server: str) -> bool:
    said = subprocess.run([server, "--version"], capture_output=True, text=True, check=False).stdout
    return "MariaDB" not in said and int((said.partition("Ver ")[2] or "0").partition(".")[0]) >= 8


def _mariadb(server: str, install: str, *, durable: bool) -> Plan:
    prepare = [install, "--no-defaults", "--datadir={data}", "--skip-test-db", "--skip-name-resolve"]
    # In a common folder, two that are installed at once take each other's temporary tables.
    prepare += ["--tmpdir={folder}"]
    prepare += ["--auth-root-authentication-method=normal"]  # without it, it wants to be root
    return _plan(server, "MariaDB", prepare, () if durable else _MARIADB)


def _mysql(server: str, *, durable: bool) -> Plan:
    prepare = [server, "--no-defaults", "--initialize-insecure", "--datadir={data}"]
    return _plan(server, "MySQL", prepare, ("--mysqlx=OFF", *(() if durable else _MYSQL)))


def _plan(server: str, product: str, prepare: list[str], more: tuple[str, ...]) -> Plan:
    password = secrets.token_hex(8)
    start = [server, "--no-defaults", "--datadir={data}", "--port={port}", "--socket={folder}/socket"]
    start += [
        "--pid-file={folder}/pid",
        "--tmpdir={folder}",
        "--init-file={folder}/users.sql",
        *_SETTINGS,
        *more,
    ]
    return Plan(
        service="mysql",
        source=f"{product} at {server}",
        url=_url("durable", password),
        greeting="mysql",
        files={"users.sql": _users(password)},
        prepare=[prepare],
        start=start,
        user=service_user("mysql"),
        farewell=signal.SIGTERM,
        death=signal.SIGKILL,
    )


def _users(password: str) -> str:
    return (
        f"CREATE USER IF NOT EXISTS 'durable'@'%' IDENTIFIED BY '{password}';\n"
        "GRANT ALL PRIVILEGES ON *.* TO 'durable'@'%' WITH GRANT OPTION;\n"
    )


def container(*, durable: bool) -> Plan | None:
    """In a container."""
    command = docker.engine()
    if command is None:
        return None
    password = secrets.token_hex(8)
    return docker.container(
        command,
        service="mysql",
        image=IMAGE,
        inner_port=3306,
        url=_url("root", password),
        environ={"MARIADB_ROOT_PASSWORD": password},
        words=["--max-connections=400", "--skip-log-bin", *(() if durable else _MARIADB)],
    )


def _url(user: str, password: str) -> str:
    return f"mysql://{user}:{password}@127.0.0.1:{{port}}/"
