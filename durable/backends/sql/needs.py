"""Which rows a batch needs, so that a store can lock and read them before anything is judged.

In two rounds: what the requests name (`of_checkpoints`, ...), and what the rows of the first round name (`further`):
parents of runs that may end, earlier runs, and the unseen messages of runs that are to be closed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from durable.backends.records import (
    MAX_MESSAGES_PER_TASK,
    MAX_UNREAD_MESSAGES,
    ActivityLease,
    ActivityOutcome,
    Change,
    Checkpoint,
    End,
    Lease,
    NewInstance,
    NewMessage,
)
from durable.backends.sql.ledger import ActivityKey, Ledger, RunKey


class InboxRange(NamedTuple):
    """The first ``limit`` messages beyond a number."""

    beyond: int
    limit: int


@dataclass(slots=True)
class Needs:
    """The rows of one batch. Dictionaries keep the order in which they were asked for."""

    instances: dict[str, None] = field(default_factory=dict)
    runs: dict[RunKey, None] = field(default_factory=dict)
    keys: dict[tuple[str, str], None] = field(default_factory=dict)
    activities: dict[ActivityKey, None] = field(default_factory=dict)
    ending: dict[str, None] = field(default_factory=dict)
    """Instances whose current run may end in this batch: their parents are needed."""
    inboxes: dict[str, InboxRange] = field(default_factory=dict)
    """Of which inboxes what is needed, if something may be unread."""
    end_tokens: dict[tuple[str, str], None] = field(default_factory=dict)
    """By which an earlier run of an instance may have been ended."""

    def run(self, instance_id: str, run_id: str | None) -> None:
        """An instance, and one run of it if it is not the current."""
        self.instances[instance_id] = None
        if run_id is not None:
            self.runs[RunKey(instance_id, run_id)] = None

    def message(self, message: NewMessage) -> None:
        """What a message needs."""
        self.run(message.instance_id, message.run_id)
        self.keys[message.instance_id, message.key] = None

    def instance(self, new: NewInstance) -> None:
        """What a run that is to be made needs."""
        self.run(new.instance_id, new.run_id)
        for message in new.messages:
            self.keys[message.instance_id, message.key] = None
        if new.parent is not None and new.parent.close != "abandon":
            self.run(new.parent.instance_id, new.parent.run_id)
        if new.if_exists == "replace":
            self.ending[new.instance_id] = None

    def inbox(self, checkpoint: Checkpoint) -> None:
        """What may be unread by a checkpoint. One message more than are consumed tells whether any is left."""
        before = self.inboxes.get(checkpoint.instance_id, InboxRange(checkpoint.seen, 1))
        beyond, more = checkpoint.seen, len(checkpoint.consumed)
        if checkpoint.next_run is not None:
            beyond, more = 0, more + MAX_UNREAD_MESSAGES
        elif checkpoint.close is not None:
            more += MAX_MESSAGES_PER_TASK
        # Two checkpoints of one instance: between what they have seen lie at most so many messages.
        between = abs(checkpoint.seen - before.beyond)
        wanted = InboxRange(min(beyond, before.beyond), before.limit + more + between)
        self.inboxes[checkpoint.instance_id] = wanted

    def activity(self, instance_id: str, run_id: str, number: int) -> None:
        """An activity task."""
        self.activities[ActivityKey(instance_id, run_id, number)] = None


@dataclass(slots=True)
class Further:
    """The second round."""

    instances: list[str]
    runs: list[RunKey]
    unread: dict[str, InboxRange]


def of_messages(messages: Iterable[NewMessage]) -> Needs:
    """What `send` needs."""
    needs = Needs()
    for message in messages:
        needs.message(message)
    return needs


def of_instances(instances: Iterable[NewInstance]) -> Needs:
    """What `create` needs."""
    needs = Needs()
    for new in instances:
        needs.instance(new)
    return needs


def of_checkpoints(checkpoints: Iterable[Checkpoint]) -> Needs:
    """What `commit` needs."""
    needs = Needs()
    for checkpoint in checkpoints:
        needs.run(checkpoint.instance_id, checkpoint.run_id)
        for absorbed in checkpoint.absorbed:
            needs.activity(checkpoint.instance_id, checkpoint.run_id, absorbed.number)
        for send in checkpoint.sends:
            needs.message(send.message)
        for child in checkpoint.children:
            needs.instance(child.instance)
        if checkpoint.next_run is not None:
            needs.instance(checkpoint.next_run)
        if checkpoint.close is not None:
            needs.ending[checkpoint.instance_id] = None
        needs.inbox(checkpoint)
    return needs


def of_changes(changes: Iterable[Change]) -> Needs:
    """What `change` needs."""
    needs = Needs()
    for change in changes:
        needs.run(change.ref.instance_id, change.ref.run_id)
        if isinstance(change, End):
            needs.ending[change.ref.instance_id] = None
            needs.end_tokens[change.ref.instance_id, change.token] = None
    return needs


def of_outcomes(outcomes: Iterable[ActivityOutcome]) -> Needs:
    """What `finish_activities` needs."""
    needs = Needs()
    for outcome in outcomes:
        ref = outcome.ref
        needs.run(ref.instance_id, None)
        needs.activity(ref.instance_id, ref.run_id, ref.number)
    return needs


def of_leases(leases: Sequence[Lease]) -> Needs:
    """What `extend` and `release` need."""
    needs = Needs()
    for lease in leases:
        if isinstance(lease, ActivityLease):
            needs.activity(lease.ref.instance_id, lease.ref.run_id, lease.ref.number)
        else:
            needs.run(lease.instance_id, None)
    return needs


def further(ledger: Ledger, needs: Needs) -> Further:
    """What the rows of the first round make necessary."""
    instances: dict[str, None] = {}
    for instance_id in needs.ending:
        row = ledger.runs.get(instance_id)
        if row is not None and row.parent_id is not None and row.parent_id not in ledger.runs:
            instances[row.parent_id] = None
    runs = [
        key for key in needs.runs if (row := ledger.runs.get(key.instance_id)) and row.run_id != key.run_id
    ]
    unread = {
        instance_id: wanted
        for instance_id, wanted in needs.inboxes.items()
        if (row := ledger.runs.get(instance_id)) is not None and row.sent > wanted.beyond
    }
    return Further(list(instances), runs, unread)
