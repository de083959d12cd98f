"""The bell of a SQLite store, which also hears other processes: while somebody listens, it is asked for that."""

from __future__ import annotations

from collections.abc import Callable

from durable.backends.wakeup import Bell, Concerns, Listener, Topic


class HearingBell(Bell):
    """A `Bell` that says when its first listener comes and when its last one goes."""

    def __init__(self, listening: Callable[[bool], None]) -> None:
        super().__init__()
        self._listeners: set[Listener] = set()
        self._listening = listening
        self.hears_others = True

    def listen(self, *topics: Topic, concerns: Concerns | None = None) -> Listener:
        """See `Bell`."""
        listener = super().listen(*topics, concerns=concerns)
        self._listeners.add(listener)
        if len(self._listeners) == 1:
            self._listening(True)
        return listener

    def forget(self, listener: Listener) -> None:
        """Ring for this listener no more."""
        super().forget(listener)
        if listener in self._listeners:
            self._listeners.remove(listener)
            if not self._listeners:
                self._listening(False)
