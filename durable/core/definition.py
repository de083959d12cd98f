"""Definitions: what a decorated function is, as plain records. Calling them is the matter of `durable.primitives`."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal

import orjson

from durable.core.retry import Retry
from durable.core.signature import CallSignature

Executor = Literal["process"] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ActivityOptions:
    """How an activity is to be run. ``None`` for a time means: no limit; for the queue: the caller's."""

    retry: Retry = field(default_factory=Retry)
    timeout_seconds: float | None = None
    queue_timeout_seconds: float | None = None
    heartbeat_timeout_seconds: float | None = None
    queue: str | None = None
    at_most_once: bool = False

    def to_text(self) -> str:
        """What travels with an activity task and stands in history: a JSON object of what is not the default."""
        told: dict[str, Any] = {} if self.retry == Retry() else {"retry": self.retry.to_json()}
        for name, value in (
            ("timeout", self.timeout_seconds),
            ("queue_timeout", self.queue_timeout_seconds),
            ("heartbeat_timeout", self.heartbeat_timeout_seconds),
            ("at_most_once", self.at_most_once or None),
        ):
            if value is not None:
                told[name] = value
        return orjson.dumps(told).decode()

    @staticmethod
    @lru_cache(maxsize=1024)
    def from_text(text: str) -> ActivityOptions:
        """The options that travelled. Raises ``ValueError`` or ``TypeError`` for other text."""
        data = orjson.loads(text)
        if not isinstance(data, dict):
            raise TypeError(f"the options of an activity are a JSON object, not {text!r:.100}")
        return ActivityOptions(
            retry=Retry.from_json(data["retry"]) if "retry" in data else Retry(),
            timeout_seconds=data.get("timeout"),
            queue_timeout_seconds=data.get("queue_timeout"),
            heartbeat_timeout_seconds=data.get("heartbeat_timeout"),
            at_most_once=data.get("at_most_once", False),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ActivityDefinition:
    """An activity: its name, the function (or bound method) that runs, and its options."""

    name: str
    fn: Callable[..., Any]
    signature: CallSignature
    options: ActivityOptions
    executor: Executor = None

    @property
    def is_async(self) -> bool:
        return _is_async(self.fn)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowDefinition:
    """A workflow: its name and version, the coroutine function, and what its instances are started with."""

    name: str
    fn: Callable[..., Any]
    signature: CallSignature
    version: str = ""
    queue: str | None = None
    timeout_seconds: float | None = None


@lru_cache(maxsize=4096)
def _is_async(fn: Callable[..., Any]) -> bool:
    return inspect.iscoroutinefunction(fn)


@lru_cache(maxsize=4096)
def build_of(fn: Callable[..., Any]) -> str:
    """A hash of a function's source (of its byte code, where there is no source): tells one code from another."""
    try:
        source = inspect.getsource(fn).encode()
    except (OSError, TypeError):
        code = getattr(fn, "__code__", None)
        source = repr(fn).encode() if code is None else code.co_code + repr(code.co_names).encode()
    return hashlib.blake2b(source, digest_size=8).hexdigest()
