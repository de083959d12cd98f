"""What a URL says: ``mysql://user:password@host:port/database?option=value``, also ``mariadb://``.

In MySQL a schema *is* a database. The one in the path is where the connection stands (and where a user's own tables
are); ``?schema=`` names the one that holds this store's tables if it is another: so tenants are kept apart, and one
transaction can still write in both. Every statement of the store names its tables in full, so that it also works on
a connection of somebody else's that stands elsewhere.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import parse_qsl, quote, unquote, urlsplit

DRIVERS = ("aiomysql", "asyncmy")
SSL_MODES = ("disabled", "required", "verify_ca", "verify_identity")
OPTIONS = (
    *("schema", "driver", "pool_size", "pool_idle", "connect_timeout", "call_timeout", "unix_socket"),
    *("ssl_mode", "ssl_ca", "ssl_cert", "ssl_key"),
)
MAX_NAME = 64
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where the server is and how it is spoken to. ``url`` is without password and options, for messages."""

    url: str
    host: str
    port: int
    user: str
    password: str = field(repr=False)
    database: str
    schema: str
    driver: str = "aiomysql"
    unix_socket: str | None = None
    pool_size: int = 10
    pool_idle_seconds: float = 300.0
    connect_seconds: float = 5.0
    call_seconds: float = 30.0
    ssl_mode: str | None = None
    ssl_ca: str | None = None
    ssl_cert: str | None = None
    ssl_key: str | None = None

    def tls(self) -> ssl.SSLContext | None:
        """How the connection is encrypted; ``None``: it is not. Raises ``ValueError`` for files that cannot be read."""
        mode = self.ssl_mode or ("verify_identity" if self.ssl_ca else "disabled")
        if mode == "disabled":
            return None
        try:
            context = ssl.create_default_context(cafile=self.ssl_ca)
            if self.ssl_cert:
                context.load_cert_chain(self.ssl_cert, self.ssl_key)
        except (OSError, ssl.SSLError) as error:
            raise ValueError(f"ssl_ca, ssl_cert or ssl_key cannot be used: {error}") from None
        context.check_hostname = mode == "verify_identity"
        context.verify_mode = ssl.CERT_NONE if mode == "required" else ssl.CERT_REQUIRED
        return context


def parse_url(url: str, settings: Mapping[str, Any] | None = None) -> Address:
    """Read a URL, and settings that it does not carry. Raises ``ValueError``, never with the password in it."""
    parts = urlsplit(url)
    try:
        host, port = parts.hostname or "localhost", parts.port or 3306
    except ValueError as error:
        raise ValueError(f"the port is no number from 1 to 65535 ({error})") from None
    if parts.fragment:
        raise ValueError("write '#' in a user name, password or database as %23")
    user, database = unquote(parts.username or ""), unquote(parts.path.removeprefix("/"))
    given = dict(parse_qsl(parts.query, keep_blank_values=True)) | dict(settings or {})
    options = {name: value for name, value in given.items() if value is not None and name != "poll"}
    _refuse_unknown(options)
    schema = str(options.get("schema") or database)
    if not user or not schema:
        raise ValueError("write mysql://user:password@host:3306/database")
    return Address(
        url=_shown(parts.scheme, user, host, port, schema),
        host=host,
        port=port,
        user=user,
        password=unquote(parts.password or ""),
        database=_name(database or schema),
        schema=_name(schema),
        driver=_one_of("driver", options.get("driver", "aiomysql"), DRIVERS),
        unix_socket=options.get("unix_socket"),
        pool_size=_number("pool_size", options.get("pool_size", 10), int, 2, 1_000),
        pool_idle_seconds=_number("pool_idle", options.get("pool_idle", 300), float, 0.1, 86_400),
        connect_seconds=_number("connect_timeout", options.get("connect_timeout", 5), float, 0.1, 600),
        call_seconds=_number("call_timeout", options.get("call_timeout", 30), float, 0.1, 3_600),
        ssl_mode=None if "ssl_mode" not in options else _one_of("ssl_mode", options["ssl_mode"], SSL_MODES),
        ssl_ca=options.get("ssl_ca"),
        ssl_cert=options.get("ssl_cert"),
        ssl_key=options.get("ssl_key"),
    )


def _shown(scheme: str, user: str, host: str, port: int, schema: str) -> str:
    where = f"[{host}]" if ":" in host else host
    return f"{scheme}://{quote(user)}@{where}:{port}/{quote(schema)}"


def _refuse_unknown(options: Mapping[str, Any]) -> None:
    for name in options:
        if name not in OPTIONS:
            raise ValueError(
                f"the MySQL store does not know the option {name!r}; it has poll, {', '.join(OPTIONS)}"
            )


def _name(text: str) -> str:
    if len(text) > MAX_NAME or re.search(r"[\0`/\\]", text) or text != text.strip():
        raise ValueError(f"{text!r} cannot be the name of a database")
    return text


def _one_of(option: str, value: object, allowed: tuple[str, ...]) -> str:
    if value not in allowed:
        raise ValueError(f"{option} is one of {', '.join(allowed)}, not {value!r}")
    return str(value)


def _number(option: str, value: object, kind: Callable[[Any], T], least: float, most: float) -> T:
    try:
        number = kind(value)
    except (TypeError, ValueError):
        number = None
    if number is None or not least <= number <= most:  # type: ignore[operator]
        raise ValueError(f"{option} is a number from {least:g} to {most:g}, not {value!r}")
    return number
