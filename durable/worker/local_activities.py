"""Short activities without a row: their schedule is written with their result, in one checkpoint.

An activity that has a row costs a checkpoint for it and one for its result. One that runs here and now needs only the
latter. It is no promise less: what was not written is asked for again when the run is replayed. The rules:

1. It starts when the checkpoint with the events that led to it was accepted, never before.
2. Only if this worker has its code and its queue, a slot is free (or is soon: it waits behind others without a row), it
   may run more than once, and the run was claimed at most once since its last checkpoint (else it may be what kills
   workers, and only rows count deliveries).
3. The run's lease is held while it has such work.
4. A checkpoint that writes a schedule without its result writes the row, leased to this worker: history never holds a
   schedule that nothing would finish.
5. It gets its row after `ROW_AFTER_SECONDS`, and before its heartbeat is stored, before it is completed later, opens a
   transaction, is retried or given back. If it still waits for its slot then, it is open to all.
6. Cancelled before it has a row, it is cancelled in place; both facts go into the next checkpoint.
7. A run that lost its head drops such activities; they run again, wherever the run goes on.

What is kept back is always the very end of what a run asked for, and activities alone. The head of a checkpoint behind
which something was kept back says so (`durable.core.ids.open_token`), so that whoever replays the run knows.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from durable.backends.records import ActivityRef, ActivityTask, HeldLease
from durable.core.commands import ScheduleActivity
from durable.core.definition import ActivityOptions
from durable.core.events import ActivityScheduled
from durable.core.replay import Outcome, put_before
from durable.worker.warm import Owed, Piece, WarmRun

if TYPE_CHECKING:
    from durable.worker.attempt import RunningAttempt
    from durable.worker.parts import Parts

ROW_AFTER_SECONDS = 0.05
MAX_KEPT = 256
MAX_KEPT_CHARACTERS = 4 * 1024
"""What is kept back is written together with the next step, which may fill a checkpoint but for 128 KiB."""


class LocalActivities:
    """What this worker runs without a row. ``on=False``: every activity has one."""

    def __init__(self, parts: Parts, *, on: bool) -> None:
        self._parts = parts
        self._on = on
        self._rows: dict[ActivityRef, asyncio.Future[bool]] = {}
        """Who waits for a row."""
        self._watched: deque[tuple[float, WarmRun, Mapping[int, HeldLease]]] = deque()
        """Runs, when they are to be looked at, and what they ran without a row: one timer is for all of them."""
        self._alarm: asyncio.TimerHandle | None = None

    # --- what a checkpoint leaves out -----------------------------------------------------------------------------

    def with_owed(self, warm: WarmRun, piece: Piece) -> Piece:
        """The piece with what was kept back from the last checkpoint in front of it: that is written now."""
        if warm.owed is None:
            return piece
        outcome = put_before(warm.owed.events, warm.owed.commands, piece.outcome)
        return Piece(outcome=outcome, taken=piece.taken, consumed=piece.consumed, seen=piece.seen)

    def keep_back(self, warm: WarmRun, outcome: Outcome) -> tuple[ScheduleActivity, ...]:
        """The activities at the end of an outcome that are started without a row. A slot is reserved for each."""
        if not self._on or outcome.end is not None or not self._may_keep(warm):
            return ()
        kept: list[ScheduleActivity] = []
        for event, command in zip(reversed(outcome.events), reversed(outcome.commands), strict=False):
            if not isinstance(event, ActivityScheduled) or not isinstance(command, ScheduleActivity):
                break
            if command.number in warm.rowless or not self._may_run(command):
                break
            kept.append(command)
        kept.reverse()
        if len(kept) > MAX_KEPT or _size(kept) > MAX_KEPT_CHARACTERS:
            return ()
        at_once = any(one.queue_timeout_us is not None for one in kept)
        return tuple(kept) if self._parts.activities.reserve_rowless(len(kept), at_once=at_once) else ()

    @staticmethod
    def _may_keep(warm: WarmRun) -> bool:
        return warm.claims == 0 or (warm.claims == 1 and warm.task.state == "running")

    def _may_run(self, command: ScheduleActivity) -> bool:
        return self._parts.can_run(command.name, command.queue) and not _only_once(command.options)

    # --- running them ---------------------------------------------------------------------------------------------

    def start(self, warm: WarmRun, kept: tuple[ScheduleActivity, ...], outcome: Outcome) -> None:
        """What led to these is durable: begin them. ``outcome`` is the one that they were kept back from."""
        if not kept:
            return
        events = outcome.events[len(outcome.events) - len(kept) :]
        warm.owed = Owed(events, kept)
        lease = self._parts.held_lease()
        for command in kept:
            warm.rowless[command.number] = lease
            warm.local.add(command.number)
            self._parts.activities.start(self._task(warm, command, lease), reserved=True, rowless=True)
        self.watch(warm)

    def _task(self, warm: WarmRun, command: ScheduleActivity, lease: HeldLease) -> ActivityTask:
        return ActivityTask(
            ref=_ref(warm, command.number),
            name=command.name,
            queue=command.queue,
            workflow=warm.task.workflow,
            payload=command.args,
            options=command.options,
            attempt=1,
            deliveries=1,
            token=lease.token,
            scheduled_at_us=self._parts.clock.now_us(),
        )

    def watch(self, warm: WarmRun) -> None:
        """See to it that what runs without a row does not do so for long."""
        if warm.rowless:
            loop = asyncio.get_running_loop()
            self._watched.append((loop.time() + ROW_AFTER_SECONDS, warm, warm.rowless))
            if self._alarm is None:
                self._alarm = loop.call_later(ROW_AFTER_SECONDS, self._look)

    def _look(self) -> None:
        loop = asyncio.get_running_loop()
        self._alarm = None
        while self._watched:
            at, warm, rowless = self._watched[0]
            is_unwritten = warm.rowless is rowless
            if is_unwritten and at > loop.time():
                self._alarm = loop.call_at(at, self._look)
                return
            self._watched.popleft()
            if is_unwritten:
                self._write_rows(warm)

    def _write_rows(self, warm: WarmRun) -> None:
        """Have a checkpoint written now. One that is on its way writes the rows anyway."""
        if warm.rowless:
            self._parts.workflow_tasks.go_on(warm)

    async def row(self, attempt: RunningAttempt) -> bool:
        """Wait until the attempt has a row; ``False`` if it was dropped instead, and nobody wants its result."""
        if not attempt.rowless:
            return True
        warm = self._parts.workflow_tasks.cache.get(attempt.ref.run_id)
        if warm is None or attempt.ref.number not in warm.rowless:
            return False
        waits = self._rows.get(attempt.ref)
        if waits is None:
            waits = self._rows[attempt.ref] = asyncio.get_running_loop().create_future()
            self._write_rows(warm)
        return await asyncio.shield(waits)

    def close(self) -> None:
        """Look no more."""
        if self._alarm is not None:
            self._alarm.cancel()
        self._watched.clear()

    # --- what has become of them ----------------------------------------------------------------------------------

    def written(self, warm: WarmRun, answered: Collection[int], cancelled: Collection[int]) -> None:
        """A checkpoint was accepted: all that was kept back before it has its result, is cancelled, or has a row."""
        warm.owed = None
        rowless, warm.rowless = warm.rowless, {}
        for number, lease in rowless.items():
            ref = _ref(warm, number)
            if number in answered:
                continue
            if number not in cancelled:  # else its caller does that, as with those that have a row
                self._parts.activities.has_row(ref, lease.token)
            self._resolve(ref, number not in cancelled)

    def drop(self, warm: WarmRun) -> None:
        """The run is not ours any more (or has ended): nobody will take what these would give."""
        warm.owed = None
        rowless, warm.rowless = warm.rowless, {}
        for number in rowless:
            self._parts.activities.cancel(_ref(warm, number))
            self._resolve(_ref(warm, number), False)

    def _resolve(self, ref: ActivityRef, has_row: bool) -> None:
        waits = self._rows.pop(ref, None)
        if waits is not None and not waits.done():
            waits.set_result(has_row)


def _size(kept: Collection[ScheduleActivity]) -> int:
    return sum(len(one.args) + len(one.options) + len(one.name) + len(one.queue) for one in kept)


def _only_once(options: str) -> bool:
    if options == "{}":
        return False
    try:
        return ActivityOptions.from_text(options).at_most_once
    except (ValueError, KeyError, TypeError):
        return True  # a row's worker will say what is wrong


def _ref(warm: WarmRun, number: int) -> ActivityRef:
    return ActivityRef(instance_id=warm.task.instance_id, run_id=warm.task.run_id, number=number)
