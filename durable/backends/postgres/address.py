"""What a URL says: ``postgresql://user:password@host:port/database?option=value``, also ``postgres://``.

``?schema=`` (default ``public``) keeps tenants apart. Every statement names its tables with their schema, so that it
also works on a caller's connection, and behind PgBouncer, where no setting of a connection can be relied on.

Several hosts, ``postgresql://user:password@first:5432,second:5432/database``, are a primary and its standbys in any
order: each new connection goes to the first of them that may be written to.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import parse_qsl, quote, unquote, urlsplit

DEFAULT_PORT = 5432
SSL_MODES = ("disable", "prefer", "require", "verify-ca", "verify-full")
OPTIONS = (
    *("schema", "pool_size", "pool_idle", "connect_timeout", "call_timeout", "pgbouncer", "wakeups"),
    *("group_by_part", "one_statement", "host", "sslmode", "sslrootcert", "sslcert", "sslkey"),
)
_SCHEMA = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,47}")
_WORDS = {
    "true": True,
    "on": True,
    "1": True,
    "yes": True,
    "false": False,
    "off": False,
    "0": False,
    "no": False,
}
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where the server is and how it is spoken to. ``url`` is without password and options, for messages.

    ``hosts``, with their ports, are names, addresses, or folders of Unix sockets. ``call_seconds`` limits each
    statement.
    """

    url: str
    hosts: tuple[tuple[str, int], ...]
    user: str
    password: str | None = field(repr=False)
    database: str
    schema: str = "public"
    pool_size: int = 10
    pool_idle_seconds: float = 300.0
    connect_seconds: float = 5.0
    call_seconds: float = 30.0
    pgbouncer: bool = False
    wakeups: bool = True
    group_by_part: bool = False
    one_statement: bool = True
    ssl_mode: str | None = None
    ssl_root_cert: str | None = None
    ssl_cert: str | None = None
    ssl_key: str | None = None

    def tls(self) -> ssl.SSLContext | str | None:
        """For asyncpg: a context or the word of a mode. Raises ``ValueError`` for files that cannot be read."""
        mode = self.ssl_mode or ("verify-full" if self.ssl_root_cert else "prefer")
        if mode in ("disable", "prefer") and not self.ssl_cert:
            return "disable" if all(host.startswith("/") for host, _ in self.hosts) else mode
        try:
            context = ssl.create_default_context(cafile=self.ssl_root_cert)
            if self.ssl_cert:
                context.load_cert_chain(self.ssl_cert, self.ssl_key)
        except (OSError, ssl.SSLError) as error:
            raise ValueError(f"sslrootcert, sslcert or sslkey cannot be used: {error}") from None
        context.check_hostname = mode == "verify-full"
        context.verify_mode = ssl.CERT_REQUIRED if mode.startswith("verify") else ssl.CERT_NONE
        return context


def parse_url(url: str, settings: Mapping[str, Any] | None = None) -> Address:
    """Read a URL, and settings that it does not carry. Raises ``ValueError``, never with the password in it."""
    parts = urlsplit(url)
    if parts.fragment:
        raise ValueError("write '#' in a user name, password or database as %23")
    given = dict(parse_qsl(parts.query, keep_blank_values=True)) | dict(settings or {})
    options = {
        name: value for name, value in given.items() if value is not None and name not in ("poll", "clock")
    }
    _refuse_unknown(options)
    user, database = unquote(parts.username or ""), unquote(parts.path.removeprefix("/"))
    if not user or not database:
        raise ValueError("write postgresql://user:password@host:5432/database")
    hosts = _hosts(parts.netloc.rpartition("@")[2], options.get("host"))
    return Address(
        url=_shown(user, hosts, database, options.get("schema")),
        hosts=hosts,
        user=user,
        password=None if parts.password is None else unquote(parts.password),
        database=database,
        schema=_schema(options.get("schema", "public")),
        pool_size=_number("pool_size", options.get("pool_size", 10), int, 2, 1_000),
        pool_idle_seconds=_number("pool_idle", options.get("pool_idle", 300), float, 0.1, 86_400),
        connect_seconds=_number("connect_timeout", options.get("connect_timeout", 5), float, 0.1, 600),
        call_seconds=_number("call_timeout", options.get("call_timeout", 30), float, 0.1, 3_600),
        pgbouncer=_truth("pgbouncer", options.get("pgbouncer", False)),
        wakeups=_truth("wakeups", options.get("wakeups", True)),
        group_by_part=_truth("group_by_part", options.get("group_by_part", False)),
        one_statement=_truth("one_statement", options.get("one_statement", True)),
        ssl_mode=_mode(options.get("sslmode")),
        ssl_root_cert=options.get("sslrootcert"),
        ssl_cert=options.get("sslcert"),
        ssl_key=options.get("sslkey"),
    )


def _hosts(text: str, other: Any) -> tuple[tuple[str, int], ...]:
    """``other``: the option ``host``, for what cannot stand in a URL's place for hosts, like a folder of a socket."""
    found = []
    for one in text.split(","):
        parts = urlsplit(f"//{one}")
        try:
            host, port = parts.hostname, parts.port or DEFAULT_PORT
        except ValueError as error:
            raise ValueError(f"the port is no number from 1 to 65535 ({error})") from None
        found.append((str(other or unquote(host or "localhost")), port))
    return tuple(found)


def _shown(user: str, hosts: Sequence[tuple[str, int]], database: str, schema: str | None) -> str:
    names = (f"[{host}]:{port}" if ":" in host else f"{quote(host, safe='')}:{port}" for host, port in hosts)
    of_schema = f"?schema={schema}" if schema else ""
    return f"postgresql://{quote(user)}@{','.join(names)}/{quote(database)}{of_schema}"


def _refuse_unknown(options: Mapping[str, Any]) -> None:
    for name in options:
        if name == "prefix":
            raise ValueError("PostgreSQL has schemas: use ?schema= instead of ?prefix=")
        if name not in OPTIONS:
            known = ", ".join(("poll", *OPTIONS))
            raise ValueError(f"the PostgreSQL store does not know the option {name!r}; it has {known}")


def _schema(text: Any) -> str:
    if not isinstance(text, str) or not _SCHEMA.fullmatch(text):
        raise ValueError(f"schema is a name of letters, digits and '_', at most 48, not {text!r}")
    return text


def _mode(text: str | None) -> str | None:
    if text is None or text in SSL_MODES:
        return text
    raise ValueError(f"sslmode is one of {', '.join(SSL_MODES)}, not {text!r}")


def _number(name: str, given: Any, kind: Callable[[Any], T], least: float, most: float) -> T:
    try:
        number = kind(given)
    except (TypeError, ValueError):
        number = None
    if number is None or not least <= number <= most:  # type: ignore[operator]
        raise ValueError(f"{name} is a number from {least:g} to {most:g}, not {given!r}")
    return number


def _truth(name: str, given: Any) -> bool:
    if isinstance(given, bool):
        return given
    if (word := str(given).lower()) not in _WORDS:
        raise ValueError(f"{name} is true or false, not {given!r}")
    return _WORDS[word]
