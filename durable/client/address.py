"""Addresses: which store a URL names. Stores are found by scheme through the entry-point group ``durable.backends``."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from typing import Any
from urllib.parse import SplitResult, parse_qsl, urlencode, urlsplit

from durable.backends.contract import Backend
from durable.errors import BackendError

DEFAULT_URL = "sqlite:///./durable.db"
DEFAULT_POLL_SECONDS = 1.0
PLANNED = ("redis", "redis+cluster")
# Greedy, up to the last "@": a password with "@", "/" or "?" in it is none the less one.
_PASSWORD = re.compile(r"(?<=://)([^:@/]*):.*@", re.DOTALL)
_OPTION = re.compile(r"([?&][^=&]*(?:pass|pwd|secret|token)[^=&]*=).*", re.IGNORECASE | re.DOTALL)
_NOT_ENCODED = re.compile(r"[^:/?#]+://[^:@/?#]*:(?!\d+/)[^@/?#]*[/?#].*@", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """A store's URL without the options that are not the store's own."""

    url: str = field(repr=False)
    scheme: str
    poll_seconds: float

    @classmethod
    def of(cls, url: str | None) -> Address:
        """Read a URL (``None``: ``DURABLE_URL``, else the default). Raises ``ValueError`` for what is none."""
        url = url or os.environ.get("DURABLE_URL") or DEFAULT_URL
        split = _split(url)
        if not split.scheme or "://" not in url:
            raise ValueError(
                f"{without_password(url)!r} is no store's URL: write sqlite:///file.db, memory:// or the like"
            )
        options = dict(parse_qsl(split.query, keep_blank_values=True))
        poll = _poll_of(options.pop("poll", None), url)
        query = f"?{urlencode(options)}" if options else ""
        return cls(url=url.split("?", 1)[0] + query, scheme=split.scheme, poll_seconds=poll)


def _split(url: str) -> SplitResult:
    if _NOT_ENCODED.match(url):
        raise ValueError(
            f"{without_password(url)}: write '/', '?' and '#' in a user name or password as %2F, %3F and %23"
        )
    try:
        return urlsplit(url)
    except ValueError:
        raise ValueError(
            f"{without_password(url)}: write '[' and ']' in a user name or password as %5B and %5D"
        ) from None


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
        said = str(error).replace(
            address.url.partition("?")[0], without_password(address.url).partition("?")[0]
        )
        raise ValueError(f"{without_password(address.url)}: {said}") from None
    return store


def without_password(url: str) -> str:
    """The URL as it may be shown, also if it is none or its password is not written as it should be."""
    if "://" not in url:
        return re.sub(r":.*@", ":***@", url, flags=re.DOTALL)
    return _OPTION.sub(r"\1***", _PASSWORD.sub(r"\1:***@", url))


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
