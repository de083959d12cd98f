"""Addresses: which store a URL names. Stores are found by scheme through the entry-point group ``durable.backends``."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from durable.backends.contract import Backend
from durable.errors import BackendError

DEFAULT_URL = "sqlite:///./durable.db"
DEFAULT_POLL_SECONDS = 1.0
PLANNED = ("redis", "redis+cluster", "postgresql", "mysql")
_PASSWORD = re.compile(r"(?<=://)([^:@/]*):[^@/]*@")


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """A store's URL without the options that are not the store's own."""

    url: str
    scheme: str
    poll_seconds: float

    @classmethod
    def of(cls, url: str | None) -> Address:
        """Read a URL (``None``: ``DURABLE_URL``, else the default). Raises ``ValueError`` for what is none."""
        url = url or os.environ.get("DURABLE_URL") or DEFAULT_URL
        split = urlsplit(url)
        if not split.scheme or "://" not in url:
            raise ValueError(
                f"{without_password(url)!r} is no store's URL: write sqlite:///file.db, memory:// or the like"
            )
        options = dict(parse_qsl(split.query, keep_blank_values=True))
        poll = _poll_of(options.pop("poll", None), url)
        query = f"?{urlencode(options)}" if options else ""
        return cls(url=url.split("?", 1)[0] + query, scheme=split.scheme, poll_seconds=poll)


async def open_backend(address: Address, settings: Mapping[str, Any]) -> Backend:
    """Open the store.

    Raises ``ValueError`` for an unknown scheme or option, `BackendError` for a store out of reach.
    """
    found = list(entry_points(group="durable.backends", name=address.scheme))
    if not found:
        raise ValueError(_unknown(address))
    try:
        opener = found[0].load()
    except ImportError as error:
        if error.name is None or error.name.partition(".")[0] == "durable":
            raise  # a mistake of ours, no missing extra
        raise BackendError(
            f"{without_password(address.url)}: a package is missing ({error.name}). Type: "
            f"pip install 'durable-engine[{address.scheme}]'"
        ) from error
    try:
        store: Backend = await opener(address.url, **settings)
    except ValueError as error:
        raise ValueError(f"{without_password(address.url)}: {error}") from None
    return store


def without_password(url: str) -> str:
    """The URL as it may be shown."""
    return _PASSWORD.sub(r"\1:***@", url)


def _unknown(address: Address) -> str:
    url = without_password(address.url)
    if address.scheme in PLANNED:
        return f"{url}: {address.scheme}:// is planned, but not part of this release; there are {_schemes()}"
    return f"{url}: no store for the scheme {address.scheme!r} is installed; there are {_schemes()}"


def _schemes() -> str:
    return ", ".join(sorted(f"{entry.name}://" for entry in entry_points(group="durable.backends")))


def _poll_of(text: str | None, url: str) -> float:
    if text is None:
        return DEFAULT_POLL_SECONDS
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0.001 <= seconds <= 3600:
        raise ValueError(
            f"{without_password(url)}: poll is a number of seconds from 0.001 to 3600, not {text!r}"
        )
    return seconds
