"""One connection, spoken to through aiomysql or asyncmy: the only file that knows them.

- A statement goes out as bytes, whole (`literals`); rows come back as tuples of ``int``, ``str``, ``bytes``, ``None``.
  What a column of kind VARBINARY (or CHAR, VARCHAR) holds is a text; what a BLOB holds is bytes.
- Several statements may go out together (``;``): one round trip, a result each; the first error ends them.
- Every await is limited in time. A call that was cancelled, timed out or broken leaves the connection in an unknown
  state: it is closed at once, and never used again.
- An error of the server is a `Failure`; its number says what it means (`failures`).

Both drivers' connections have ``query`` and ``next_result``, which their cursors are made of; cursors would ask for
each statement's warnings (aiomysql) and format parameters (both).
"""

from __future__ import annotations

import asyncio
import importlib
import ssl
from collections.abc import Sequence
from decimal import Decimal
from typing import Any, NamedTuple

from durable.backends.mysql.address import Address
from durable.backends.mysql.failures import BROKEN, CERTIFICATE, NO_TLS, Failure, TooLarge
from durable.errors import BackendError

SQL_MODE = (
    "STRICT_ALL_TABLES,ERROR_FOR_DIVISION_BY_ZERO,NO_ZERO_IN_DATE,NO_ZERO_DATE,NO_ENGINE_SUBSTITUTION,"
    "PIPES_AS_CONCAT"
)
LOCK_SECONDS = 2
"""How long a statement waits for a lock of somebody else; instance rows are never waited for (``SKIP LOCKED``)."""
IDLE_IN_TRANSACTION_SECONDS = 15
"""When the server ends a session that was stopped in the middle of a transaction. MySQL ends any that is idle for so
long; there we drop idle ones before."""

_PREPARE = (
    f"SET SESSION sql_mode = '{SQL_MODE}', time_zone = '+00:00', innodb_lock_wait_timeout = {LOCK_SECONDS}; "
    "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED; "
    "SELECT VERSION(), @@max_allowed_packet, @@innodb_rollback_on_timeout"
)
_IN_TRANSACTION = 1
_TEXTS = frozenset({15, 253, 254})
_DECIMALS = frozenset({0, 246})
_MIB = 2**20


class Result(NamedTuple):
    """What a statement gave. ``affected``: rows inserted, deleted or *changed*; ``note``: the server's remark."""

    rows: list[tuple[Any, ...]]
    affected: int
    note: str
    warnings: int


class Version(NamedTuple):
    """Which server it is."""

    mariadb: bool
    number: tuple[int, int, int]
    text: str


class Link:
    """A connection."""

    def __init__(self, raw: Any, call_seconds: float) -> None:
        self.raw = raw
        self._call_seconds = call_seconds
        self._broken = False
        self.version = Version(False, (0, 0, 0), "")
        self.max_packet = 16 * _MIB
        self.idle_seconds: float | None = None
        """When it is too old to be used again, if the server says so."""

    async def prepare(self) -> None:
        """Set what every statement relies on."""
        results = await self.run(_PREPARE.encode())
        version, packet, _ = results[-1].rows[0]
        self.version = read_version(str(version))
        self.max_packet = int(packet)
        await self.end_when_idle(IDLE_IN_TRANSACTION_SECONDS)

    async def end_when_idle(self, seconds: int) -> None:
        """When the server is to end this session, if nothing comes in the middle of a transaction (0: never)."""
        if self.version.mariadb:
            await self.run(b"SET SESSION idle_transaction_timeout = %d" % seconds)
        else:
            await self.run(b"SET SESSION wait_timeout = %d" % (seconds or 31_536_000))
            self.idle_seconds = seconds * 0.8 if seconds else None

    @property
    def usable(self) -> bool:
        """Whether its state is known and the server still there, as far as one can see from here."""
        return not self._broken and not is_closed(self.raw)

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open, by the server's last word."""
        return bool(self.raw.server_status & _IN_TRANSACTION)

    async def run(self, statement: bytes) -> list[Result]:
        """Send statements, and read a result of each. Raises `Failure`, `TooLarge`, or `BackendError` (time is up)."""
        if len(statement) + 1 > self.max_packet:
            raise TooLarge(
                f"a statement of {len(statement) / _MIB:.1f} MiB is more than the server takes; raise its "
                f"max_allowed_packet ({self.max_packet / _MIB:.1f} MiB)"
            )
        try:
            async with asyncio.timeout(self._call_seconds):
                return await self._run(statement)
        except TimeoutError:
            self.discard()
            raise BackendError(f"the server did not answer within {self._call_seconds:g} s") from None
        except BaseException as error:
            if not isinstance(error, Failure) or error.number in BROKEN:
                self.discard()
            raise

    async def _run(self, statement: bytes) -> list[Result]:
        raw, results = self.raw, []
        try:
            await raw.query(statement)
            results.append(_result(raw._result))
            while raw._result is not None and raw._result.has_next:
                await raw.next_result()
                results.append(_result(raw._result))
        except Exception as error:
            raise failure_of(error) from error
        return results

    def discard(self) -> None:
        """Hang up, without a word to the server."""
        self._broken = True
        self.raw.close()

    async def close(self) -> None:
        """Say good-bye."""
        self._broken = True
        try:
            async with asyncio.timeout(1):
                await self.raw.ensure_closed()
        except Exception:
            self.raw.close()


def _result(raw: Any) -> Result:
    note = raw.message or b""
    text = note.decode(errors="replace") if isinstance(note, bytes) else str(note)
    if not raw.rows:
        return Result([], raw.affected_rows or 0, text, raw.warning_count or 0)
    rows = plain(raw.rows, [column[1] for column in raw.description])
    return Result(rows, len(rows), text, raw.warning_count or 0)


def plain(rows: Sequence[Sequence[Any]], types: Sequence[int]) -> list[tuple[Any, ...]]:
    """Rows with names as texts and sums as integers. What is no UTF-8, by damage, is shown with replacements."""
    odd = [n for n, kind in enumerate(types) if kind in _TEXTS or kind in _DECIMALS]
    if not odd:
        return [tuple(row) for row in rows]
    made = []
    for row in rows:
        values = list(row)
        for n in odd:
            value = values[n]
            if isinstance(value, bytes):
                values[n] = value.decode(errors="replace")
            elif isinstance(value, Decimal):
                values[n] = int(value)
        made.append(tuple(values))
    return made


def is_closed(raw: Any) -> bool:
    """Whether a driver's connection knows that it is closed."""
    if hasattr(raw, "connected"):  # asyncmy's word for what it was told; its stream may have ended since
        return not raw.connected or bool(getattr(raw, "_stream_broken", False))
    reader = raw._reader
    return raw.closed or reader is None or bool(reader.at_eof())


def failure_of(error: Exception) -> Exception:
    """A driver's error as a `Failure`; anything else stays what it is."""
    if isinstance(error, OSError | EOFError):
        return Failure(2013, f"the connection was lost ({str(error) or type(error).__name__})")
    kind = type(error)
    if not any(base.__name__ == "MySQLError" for base in kind.__mro__):
        return error
    arguments = error.args
    if len(arguments) >= 2 and isinstance(arguments[0], int):
        # 0: asyncmy's and aiomysql's word for a connection that is closed.
        return Failure(arguments[0] or 2006, str(arguments[1]))
    return Failure(2006, str(error) or kind.__name__)


def read_version(text: str) -> Version:
    """``8.0.36``, ``10.11.6-MariaDB-1``, ``5.5.5-10.6.1-MariaDB`` (the prefix of old protocols)."""
    mariadb = "mariadb" in text.lower()
    digits = text.removeprefix("5.5.5-") if mariadb else text
    numbers = [int(part) for part in digits.split("-")[0].split(".")[:3] if part.isdigit()]
    major, minor, patch = [*numbers, 0, 0, 0][:3]
    return Version(mariadb, (major, minor, patch), text)


async def connect(address: Address) -> Link:
    """A connection that is ready for work. Raises `Failure` or `BackendError`."""
    try:
        async with asyncio.timeout(address.connect_seconds):
            raw = await _open(address)
    except TimeoutError:
        raise Failure(2003, f"no answer within {address.connect_seconds:g} s") from None
    except RuntimeError as error:
        # MySQL's caching_sha2_password on a bare connection: the password is to be encrypted, by a package of its own.
        if "cryptography" not in str(error):
            raise
        raise Failure(2061, f"{error}") from error
    except Exception as error:
        if (broken := _tls_error(error)) is not None:
            untrusted = isinstance(broken, ssl.SSLCertVerificationError)
            raise Failure(CERTIFICATE if untrusted else NO_TLS, str(broken)) from error
        raise failure_of(error) from error
    link = Link(raw, address.call_seconds)
    try:
        await link.prepare()
    except BaseException:
        link.discard()
        raise
    return link


def _tls_error(error: BaseException | None) -> ssl.SSLError | None:
    while error is not None and not isinstance(error, ssl.SSLError):
        error = error.__cause__
    return error


async def _open(address: Address) -> Any:
    tls = address.tls()
    arguments: dict[str, Any] = {
        "host": address.host,
        "port": address.port,
        "user": address.user,
        "password": address.password,
        "db": address.database,
        "unix_socket": address.unix_socket,
        "charset": "utf8mb4",
        "connect_timeout": address.connect_seconds,
        "autocommit": True,
        "ssl": tls,
    }
    try:
        module = importlib.import_module(f"{address.driver}.connection")
    except ModuleNotFoundError as error:
        raise BackendError(
            f"{address.url}: the driver {error.name} is not installed. "
            f"Type: pip install 'durable-engine[{address.driver}]'"
        ) from error
    raw = module.Connection(**arguments)
    try:
        # What both drivers' `connect` do; by hand, so that an attempt that is cancelled is hung up.
        await (raw._connect() if hasattr(raw, "_connect") else raw.connect())
    except BaseException:
        raw.close()
        raise
    if tls is not None and not raw._secure:
        # Both drivers go on without TLS when the server has none.
        raw.close()
        raise Failure(NO_TLS, "the server does not offer TLS")
    return raw


def character_set(raw: Any) -> str:
    """What a connection takes its texts for."""
    return str(getattr(raw, "_charset", "unknown"))


def is_connection(value: Any) -> bool:
    """Whether this is a connection of one of the two drivers."""
    kind = type(value)
    return any(
        base.__module__.partition(".")[0] in ("aiomysql", "asyncmy") and base.__name__ == "Connection"
        for base in kind.__mro__
    )
