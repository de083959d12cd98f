"""From a URL to a connection that may be used: the address, the file's state, the schema, the settings.

Whatever is wrong is a `BackendError` with one line that names the file. The file itself is opened by SQLite alone,
here and everywhere: closing any other descriptor of it would drop SQLite's POSIX locks.
"""

from __future__ import annotations

import contextlib
import logging
import os
import random
import sqlite3
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TypeVar
from urllib.parse import unquote, urlsplit

from durable.backends.schema import OLDEST, check_schema, oldest_of
from durable.errors import BackendError

APPLICATION_ID = 0x64757262
"""``PRAGMA application_id`` of our files: the letters ``durb``."""

WAL_RESET_FIXED = (3, 51, 3)
CACHE_KIB = 32 * 1024
WAL_PAGES_KEPT_BYTES = 64 * 2**20
T = TypeVar("T")
_log = logging.getLogger("durable")
_warned: list[str] = []


@dataclass(frozen=True, slots=True)
class Address:
    """Where the file is, and what it is called in messages."""

    path: Path
    url: str


def parse_url(url: str) -> Address:
    """``sqlite:///name.db`` is relative to the working directory, ``sqlite:////name.db`` is absolute.

    Raises ``ValueError`` for anything else.
    """
    parts = urlsplit(url)
    name = unquote(parts.path)
    if name in ("", "/", "/:memory:", ":memory:") or parts.netloc == ":memory:":
        raise ValueError(f"{url} names no file; for a store in memory use memory://")
    if parts.scheme != "sqlite" or parts.netloc or not name.startswith("/"):
        raise ValueError(f"{url} is not of the form sqlite:///relative.db or sqlite:////absolute.db")
    if parts.fragment:
        raise ValueError(f"{url}: write '#' in a file name as %23")
    return Address(Path(name[1:]), url)


def warn_of_old_sqlite() -> None:
    """Once a process: below 3.51.3 a checkpoint may race with a writer that resets the write-ahead log."""
    if sqlite3.sqlite_version_info >= WAL_RESET_FIXED or _warned:
        return
    _warned.append(sqlite3.sqlite_version)
    _log.warning(
        "SQLite %s: before 3.51.3, two programs that write to one file in WAL mode can corrupt it. durable guards "
        "its own processes against that; keep other programs from writing to its file.",
        sqlite3.sqlite_version,
    )


def connect(address: Address, patience_seconds: float) -> sqlite3.Connection:
    """A connection to the file, made and migrated if need be, for the thread that calls."""
    _look_at_file(address)
    with explained(address.url):
        db = sqlite3.connect(address.path, timeout=0, isolation_level=None, cached_statements=512)
    try:
        with explained(address.url):
            patiently(lambda: _look_inside(db, address), address.url, patience_seconds)
            mode = patiently(lambda: _one(db, "PRAGMA journal_mode = WAL"), address.url, patience_seconds)
            if mode != "wal":
                raise BackendError(f"{address.url}: SQLite cannot keep a write-ahead log there ({mode})")
            db.execute("PRAGMA synchronous = FULL")
            db.execute("PRAGMA wal_autocheckpoint = 0")
            db.execute(f"PRAGMA journal_size_limit = {WAL_PAGES_KEPT_BYTES}")
            db.execute("PRAGMA temp_store = MEMORY")
            db.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
    except BaseException:
        db.close()
        raise
    return db


def _look_at_file(address: Address) -> None:
    path, url = address.path, address.url
    folder = path.absolute().parent
    if not folder.is_dir():
        raise BackendError(f"{url}: the directory {folder} does not exist; make it first")
    if path.is_dir():
        raise BackendError(f"{url}: {path} is a directory, not a file")
    if not os.access(folder, os.W_OK):
        raise BackendError(
            f"{url}: the directory {folder} cannot be written, and SQLite needs files beside its own"
        )
    if path.exists() and not os.access(path, os.R_OK | os.W_OK):
        raise BackendError(f"{url}: {path} is read-only; give this user the right to write to it")


def _look_inside(db: sqlite3.Connection, address: Address) -> None:
    # In this order: another process may make our tables between the two, and sets its mark with them.
    tables = _one(db, "SELECT count(*) FROM sqlite_master")
    kind = _one(db, "PRAGMA application_id")
    if kind != APPLICATION_ID and (kind or tables):
        raise BackendError(
            f"{address.url} belongs to another application (id {kind}, {tables} tables); use a new file"
        )


def _one(db: sqlite3.Connection, sql: str) -> object:
    return db.execute(sql).fetchone()[0]


# --- the schema


@dataclass(frozen=True, slots=True)
class Migration:
    """A file of ``migrations/``: plain SQL that may run twice."""

    number: int
    name: str
    statements: tuple[str, ...]
    oldest: int


def migrations() -> tuple[Migration, ...]:
    """All of them, in order."""
    folder = resources.files("durable.backends.sqlite") / "migrations"
    found = []
    for file in sorted(folder.iterdir(), key=lambda file: file.name):
        if file.name.endswith(".sql"):
            script = file.read_text(encoding="utf-8")
            number, statements = int(file.name[:4]), tuple(_statements(script))
            found.append(Migration(number, file.name, statements, oldest_of([script])))
    return tuple(found)


def _statements(script: str) -> Iterator[str]:
    # Not `executescript`: it commits whatever transaction is open.
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


def migrate(db: sqlite3.Connection, address: Address, patience_seconds: float) -> None:
    """Bring the schema up to date. When two start together, one does it and the other finds it done."""
    with explained(address.url):
        # Patiently: whoever has just made the file may be setting up its write-ahead log.
        if patiently(lambda: _version(db, address), address.url, patience_seconds) >= migrations()[-1].number:
            return
        patiently(lambda: db.execute("BEGIN IMMEDIATE"), address.url, patience_seconds)
        try:
            version = _version(db, address)
            for migration in migrations():
                if migration.number > version:
                    for statement in migration.statements:
                        db.execute(statement)
                    db.execute(f"PRAGMA user_version = {migration.number}")
            oldest = max(migration.oldest for migration in migrations())
            if version < migrations()[-1].number:
                db.execute("INSERT OR REPLACE INTO meta (name, value) VALUES (?, ?)", (OLDEST, str(oldest)))
            db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            db.execute("COMMIT")
        finally:
            if db.in_transaction:
                db.execute("ROLLBACK")


def _version(db: sqlite3.Connection, address: Address) -> int:
    version = str(_one(db, "PRAGMA user_version"))
    known = migrations()[-1].number
    oldest = None
    if int(version) > known:
        row = db.execute("SELECT value FROM meta WHERE name = ?", (OLDEST,)).fetchone()
        oldest = None if row is None else str(row[0])
    return check_schema(address.url, version, known, oldest)


# --- errors and patience


@contextlib.contextmanager
def explained(url: str) -> Iterator[None]:
    """SQLite's errors as `BackendError`, in one line that names the file."""
    try:
        yield
    except sqlite3.Error as error:
        raise BackendError(explain(url, error)) from error


def explain(url: str, error: sqlite3.Error) -> str:
    """What happened to the file, and what to do."""
    name = getattr(error, "sqlite_errorname", "")
    if name.startswith("SQLITE_NOTADB"):
        return f"{url} is not a SQLite database (or is encrypted); use another file"
    if name.startswith("SQLITE_CORRUPT"):
        return f"{url} is damaged ({error}); stop all workers, and restore a copy or try sqlite3's .recover"
    if name.startswith("SQLITE_READONLY"):
        return f"{url} is read-only ({error}); give this user the right to write to it"
    if name.startswith("SQLITE_FULL"):
        return f"{url}: the disk is full; nothing was written"
    if name.startswith("SQLITE_CANTOPEN"):
        return f"{url} cannot be opened ({error})"
    return f"{url}: {error} ({name or type(error).__name__})"


def is_busy(error: sqlite3.Error) -> bool:
    """Whether another connection holds a lock that was needed."""
    name = getattr(error, "sqlite_errorname", "")
    return name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED"))


def patiently(attempt: Callable[[], T], url: str, patience_seconds: float) -> T:
    """Try until nobody else holds the lock: at once, then after growing delays (at most 25 ms), for so long."""
    give_up = time.monotonic() + patience_seconds
    delay = 0.0005
    while True:
        try:
            return attempt()
        except sqlite3.OperationalError as error:
            if not is_busy(error):
                raise
            if time.monotonic() > give_up:
                raise BackendError(
                    f"{url} was locked by another process for {patience_seconds:g} s; end what holds it "
                    "(a transaction left open in a shell?) and try again"
                ) from error
        time.sleep(delay * random.uniform(0.5, 1.0))
        delay = min(delay * 2, 0.025)
