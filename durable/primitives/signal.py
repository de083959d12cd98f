"""Signals: typed, buffered messages into a running instance."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from typing import Any, Generic, TypeVar, overload

from durable.core.context import RunContext, current_run
from durable.core.payload import Converter
from durable.errors import PayloadError

T = TypeVar("T")
_log = logging.getLogger("durable")


class Signal(Generic[T]):
    """A kind of signal: ``approve = Signal("approve", Approval)``, at module level.

    ``name`` is what is sent, ``type`` (any annotation) what its value is encoded and decoded as. Signals are buffered
    per name, up to 100,000, in order of arrival, and kept over continue-as-new.
    """

    @overload
    def __init__(self: Signal[T], name: str, type: type[T]) -> None: ...

    @overload
    def __init__(self: Signal[Any], name: str, type: Any = ...) -> None: ...

    def __init__(self, name: str, type: Any = Any) -> None:
        if not isinstance(name, str) or not name:
            raise TypeError(f"a signal needs a name, a text that is not empty: {name!r}")
        self.name = name
        self.type = type

    def __repr__(self) -> str:
        return f"<signal {self.name!r}>"

    async def receive(self) -> T:
        """The next signal's value; waits for one."""
        run = current_run(f"{self!r}.receive()")
        inbox = run.inbox(self.name)
        while True:
            run.check_open()
            decoded = self._decode(run, await inbox.get(run.loop))
            if decoded:
                return decoded[0]

    def receive_nowait(self) -> T | None:
        """The next signal's value, or ``None`` if there is none now."""
        run = current_run(f"{self!r}.receive_nowait()")
        inbox = run.inbox(self.name)
        while inbox.payloads:
            run.check_open()
            decoded = self._decode(run, inbox.payloads.popleft())
            if decoded:
                return decoded[0]
        return None

    @property
    def pending(self) -> int:
        """How many signals are waiting to be received."""
        return len(current_run(f"{self!r}.pending").inbox(self.name).payloads)

    def __aiter__(self) -> AsyncIterator[T]:
        return self

    async def __anext__(self) -> T:
        return await self.receive()

    def _decode(self, run: RunContext, payload: str) -> tuple[T] | None:
        """The value, or ``None`` for one that cannot be decoded: it is dropped, since nobody could ever receive it."""
        try:
            return (run.converter.decode(payload, self.type, f"signal {self.name!r}"),)
        except PayloadError as error:
            run.dropped_signals += 1
            if not run.replaying:
                _log.error("instance %r: a signal was dropped: %s", run.identity.instance_id, error)
            return None


def signal_payload(converter: Converter, signal: Signal[Any] | str, value: Any) -> tuple[str, str]:
    """Name and payload of a signal to be sent. Raises `PayloadError`, `TypeError` for what is no signal."""
    if isinstance(signal, Signal):
        return signal.name, converter.encode(value, signal.type, f"signal {signal.name!r}")
    if not isinstance(signal, str) or not signal:
        raise TypeError(f"a signal is a durable.Signal or its name, not {signal!r}")
    return signal, converter.encode(value, Any, f"signal {signal!r}")
