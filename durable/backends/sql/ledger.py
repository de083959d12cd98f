"""The working set of one batch: the rows that were read (and are locked), and what will be written.

Judging changes the rows in here and adds to the lists; nothing is written before the whole batch is judged, and then
each row once. A later item of a batch therefore sees the effects of the earlier ones.

Writing has one order: what is taken away first, then what is added; then rows that were read and have changed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from durable.backends.records import OutboxEvent
from durable.backends.sql.rows import ActivityRow, InboxRow, RunRow, activity_values, run_values


class RunKey(NamedTuple):
    """A run, named."""

    instance_id: str
    run_id: str


class ActivityKey(NamedTuple):
    """An activity task, named."""

    instance_id: str
    run_id: str
    number: int


class Events(NamedTuple):
    """Events that one checkpoint appends to a run."""

    part: int
    instance_id: str
    run_id: str
    first: int
    events: tuple[bytes, ...]


class OutboxRow(NamedTuple):
    """An event to be published, and whose it is."""

    row: RunRow
    event: OutboxEvent


class Cleared(NamedTuple):
    """An inbox that is emptied: of the messages for one run, or (``None``) of all."""

    part: int
    instance_id: str
    run_id: str | None


@dataclass(slots=True)
class Ledger:
    """One batch. ``now_us`` is the store's time, the same for the whole batch."""

    now_us: int
    runs: dict[str, RunRow | None] = field(default_factory=dict)
    past: dict[RunKey, RunRow | None] = field(default_factory=dict)
    activities: dict[ActivityKey, ActivityRow | None] = field(default_factory=dict)
    known_keys: set[tuple[str, str]] = field(default_factory=set)
    unread: dict[str, Sequence[InboxRow]] = field(default_factory=dict)
    """Inboxes of runs that a checkpoint closes, as far as `needs.further` asked for them."""
    ended_by: set[tuple[str, str]] = field(default_factory=set)
    """Instances with a token by which an earlier run of them was ended from outside."""

    # --- net changes
    read_runs: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    read_activities: dict[ActivityKey, tuple[Any, ...]] = field(default_factory=dict)
    archived: dict[RunKey, RunRow] = field(default_factory=dict)
    history: list[Events] = field(default_factory=list)
    inbox: dict[str, dict[int, InboxRow]] = field(default_factory=dict)
    consumed: dict[str, dict[int, None]] = field(default_factory=dict)
    cleared: list[Cleared] = field(default_factory=list)
    new_keys: dict[tuple[str, str], None] = field(default_factory=dict)
    forgotten: dict[str, None] = field(default_factory=dict)
    dropped_activities: dict[ActivityKey, None] = field(default_factory=dict)
    dropped_runs: dict[RunKey, None] = field(default_factory=dict)
    held: dict[RunKey, bool] = field(default_factory=dict)
    closings: dict[RunKey, None] = field(default_factory=dict)
    outbox: list[OutboxRow] = field(default_factory=list)
    replies: dict[tuple[str, str], str] = field(default_factory=dict)
    topics: set[str] = field(default_factory=set)
    ended: set[str] = field(default_factory=set)
    """Instances of which a run ended: whom the topic ``closed`` is about."""
    _of_run: dict[RunKey, list[ActivityKey]] = field(default_factory=dict)

    # --- what was read

    def add_run(self, instance_id: str, values: Sequence[Any] | None) -> None:
        """A row of ``instances`` (or that there is none)."""
        if values is None:
            self.runs[instance_id] = None
        else:
            self.runs[instance_id] = RunRow(*values)
            self.read_runs[instance_id] = tuple(values)

    def add_activity(self, key: ActivityKey, values: Sequence[Any] | None) -> None:
        """A row of ``activities`` (or that there is none)."""
        if values is None:
            self.activities[key] = None
        else:
            self.activities[key] = ActivityRow(*values)
            self._of_run.setdefault(RunKey(*key[:2]), []).append(key)
            self.read_activities[key] = tuple(values)

    # --- looking

    def run(self, instance_id: str, run_id: str | None = None) -> RunRow | None:
        """The current run; with ``run_id`` that very run, current or not."""
        row = self.runs[instance_id]
        if row is None or run_id is None or row.run_id == run_id:
            return row
        return self.past_run(instance_id, run_id)

    def past_run(self, instance_id: str, run_id: str) -> RunRow | None:
        """An earlier run."""
        key = RunKey(instance_id, run_id)
        return self.archived.get(key) or self.past.get(key)

    def current(self, instance_id: str, run_id: str) -> RunRow | None:
        """That very run, if it is the current one of its instance and unfinished."""
        row = self.runs.get(instance_id)
        return row if row is not None and row.run_id == run_id and row.open else None

    def activity(self, instance_id: str, run_id: str, number: int) -> ActivityRow | None:
        """An activity task that there is."""
        return self.activities.get(ActivityKey(instance_id, run_id, number))

    def knows_key(self, instance_id: str, key: str) -> bool:
        """Whether a message with this key was sent to the instance before."""
        pair = (instance_id, key)
        return pair in self.new_keys or (pair in self.known_keys and instance_id not in self.forgotten)

    # --- changing

    def append(self, row: RunRow, events: tuple[bytes, ...]) -> None:
        """Add events behind the head of a run, and move the number of its head."""
        if events:
            self.history.append(Events(row.part, row.instance_id, row.run_id, row.head_number + 1, events))
            row.head_number += len(events)
            row.history_bytes += sum(map(len, events))

    def put(self, row: RunRow, key: str, kind: str, body: str, run_id: str | None) -> None:
        """Put a message into an inbox; that and the wake-up are one."""
        row.sent += 1
        message = InboxRow(row.part, row.instance_id, row.sent, run_id, key, kind, body, self.now_us)
        self.inbox.setdefault(row.instance_id, {})[row.sent] = message
        row.become_ready(self.now_us)
        self.topics.add("workflow")

    def consume(self, row: RunRow, numbers: Iterable[int]) -> None:
        """Take messages out of an inbox."""
        new = self.inbox.get(row.instance_id, {})
        for number in numbers:
            if new.pop(number, None) is None:
                self.consumed.setdefault(row.instance_id, {})[number] = None

    def clear_inbox(self, row: RunRow, *, only_of_run: bool) -> None:
        """Drop the messages that nobody will read: all, or those that are for this run only."""
        run_id = row.run_id if only_of_run else None
        if row.sent:
            self.cleared.append(Cleared(row.part, row.instance_id, run_id))
        new = self.inbox.get(row.instance_id, {})
        for number, message in list(new.items()):
            if run_id is None or message.run_id is not None:
                del new[number]

    def unread_of(self, instance_id: str) -> list[InboxRow]:
        """The inbox as it is now: what was read of it, and what earlier items of the batch sent."""
        consumed = self.consumed.get(instance_id, {})
        read = [one for one in self.unread.get(instance_id, ()) if one.number not in consumed]
        return [*read, *self.inbox.get(instance_id, {}).values()]

    def forget_keys(self, instance_id: str) -> None:
        """The id is used anew: its keys (and the replies to its updates) go."""
        self.forgotten[instance_id] = None
        for pairs in (self.new_keys, self.replies):
            for pair in [pair for pair in pairs if pair[0] == instance_id]:
                del pairs[pair]

    def add_new_activity(self, row: ActivityRow) -> None:
        """A task that was not there."""
        key = ActivityKey(row.instance_id, row.run_id, row.number)
        self.activities[key] = row
        self._of_run.setdefault(RunKey(*key[:2]), []).append(key)
        self.topics.add("activity")

    def drop_activity(self, instance_id: str, run_id: str, number: int) -> None:
        """A task is over (or was withdrawn)."""
        key = ActivityKey(instance_id, run_id, number)
        self.activities[key] = None
        self.dropped_activities[key] = None

    def drop_activities(self, row: RunRow) -> None:
        """All tasks of a run go."""
        run = RunKey(row.instance_id, row.run_id)
        for key in self._of_run.get(run, ()):
            self.activities[key] = None
        self.dropped_runs[run] = None

    def hold_activities(self, row: RunRow, held: bool) -> None:
        """The tasks of a run are not handed out any more, or are again."""
        self.held[RunKey(row.instance_id, row.run_id)] = held
        for key in self._of_run.get(RunKey(row.instance_id, row.run_id), ()):
            if (activity := self.activities[key]) is not None:
                activity.held = int(held)
                activity.settle()
        if not held:
            self.topics.add("activity")

    def archive(self, row: RunRow) -> None:
        """This run is followed by another one of the same instance."""
        self.archived[RunKey(row.instance_id, row.run_id)] = row

    # --- what to write

    def changed_runs(self) -> list[tuple[RunRow, tuple[Any, ...] | None, tuple[Any, ...]]]:
        """Runs that differ from what was read: the row, what was read (``None``: it is new), what it is now."""
        found = []
        for instance_id, row in self.runs.items():
            if row is not None:
                now, read = run_values(row), self.read_runs.get(instance_id)
                if now != read:
                    found.append((row, read, now))
        return found

    def changed_activities(self) -> list[tuple[ActivityRow, tuple[Any, ...] | None, tuple[Any, ...]]]:
        """The same for activity tasks."""
        found = []
        for key, row in self.activities.items():
            if row is not None:
                now, read = activity_values(row), self.read_activities.get(key)
                if now != read:
                    found.append((row, read, now))
        return found
