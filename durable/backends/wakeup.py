"""Wake-ups: hints that there may be work. They may be lost, late or doubled; polling alone is always enough.

A `Bell` is the in-process part that every store shares: whoever writes rings it, whoever waits is woken. A
store that can hear other processes (``data_version``, ``NOTIFY``) rings its bell for them too.

A ring may say which instances it is about; one that does not is about any. Who waits for some of them need not look at
all of them each time that one moves.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Collection
from typing import Literal

Topic = Literal["workflow", "activity", "question", "closed", "reply"]
"""What may be there: a ready workflow or activity task, an unanswered question, a run that ended, an answer."""


Concerns = Callable[[Collection[str] | None], bool]
"""Whether a ring about these instances (``None``: any) is worth being woken for."""


class Bell:
    """Wakes those who wait for a topic. Not thread-safe: ring it on the loop of those who wait."""

    def __init__(self) -> None:
        self.hears_others = False
        """Whether it also rings, as a rule, for what other processes write: who waits need not look often then."""
        self.covered: frozenset[Topic] = frozenset()
        """Topics that are also rung for by whoever claims runs, if there is something: whoever polls for runs need
        not poll for these as often."""
        self._waiting: dict[Topic, set[Listener]] = {}

    def ring(self, *topics: Topic, ids: Collection[str] | None = None) -> None:
        """Wake every listener of these topics. ``ids``: the instances that it is about (``None``: any)."""
        for topic in topics:
            for listener in self._waiting.get(topic, ()):
                listener.hear(ids)

    def listen(self, *topics: Topic, concerns: Concerns | None = None) -> Listener:
        """A listener of these topics; close it after use. With ``concerns`` it is woken where that says so."""
        listener = Listener(self, topics, concerns)
        for topic in topics:
            self._waiting.setdefault(topic, set()).add(listener)
        return listener

    def forget(self, listener: Listener) -> None:
        """Ring for this listener no more."""
        for listeners in self._waiting.values():
            listeners.discard(listener)


class Listener:
    """One who waits. What rings while nobody waits is kept until the next `wait`."""

    def __init__(self, bell: Bell, topics: tuple[Topic, ...], concerns: Concerns | None = None) -> None:
        self._bell = bell
        self.topics = topics
        self._concerns = concerns
        self._event = asyncio.Event()

    def hear(self, ids: Collection[str] | None = None) -> None:
        """Be woken, now or at the next `wait`. ``ids``: see `Bell.ring`."""
        if self._concerns is not None and not self._concerns(ids):
            return
        self._event.set()

    async def wait(self, timeout_seconds: float | None) -> bool:
        """Wait for the bell: ``True`` if it rang, ``False`` after ``timeout_seconds`` (``None``: no limit)."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_seconds):
                await self._event.wait()
        rang = self._event.is_set()
        self._event.clear()
        return rang

    def close(self) -> None:
        """Stop listening."""
        self._bell.forget(self)
