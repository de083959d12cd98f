"""Workflow tasks: bring a run up to date, let it go on, write the checkpoint, act on the verdict.

Runs are driven from plain callbacks of the worker's loop, never from inside a task of it. Between a step and its
verdict the run is *busy*: whatever arrives meanwhile waits. Nothing that a step asked for starts before its checkpoint
was accepted.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING

import orjson

from durable.backends.records import (
    Accepted,
    ActivityLease,
    ActivityRef,
    ActivityTask,
    Checkpoint,
    Close,
    Head,
    HistoryRange,
    InstanceRef,
    Message,
    MoreMessages,
    NewActivity,
    Paused,
    Problem,
    Refused,
    Stall,
    TooEarly,
    Verdict,
    WorkflowTask,
)
from durable.client.waiting import Ending
from durable.core import commands
from durable.core.context import RunIdentity, site_of_error
from durable.core.events import CancelRequested, Input, NewerFormat, SignalReceived, UpdateRequested
from durable.core.history import decode_history
from durable.core.messages import CANCEL, SIGNAL, UPDATE, input_of
from durable.core.replay import Outcome
from durable.core.watchdog import StepTooLong
from durable.errors import NonDeterminismError
from durable.worker.cache import RunCache
from durable.worker.checkpoint import checkpoint_of
from durable.worker.warm import NOTHING_TAKEN, LocalResult, Piece, Taken, WarmRun, Written

if TYPE_CHECKING:
    from durable.worker.parts import Parts

MAX_HISTORY_EVENTS = 51_200
MAX_HISTORY_BYTES = 50 * 2**20
INPUT_BYTES = 2 * 2**20
"""How much of what has arrived one checkpoint takes in; it may hold 8 MiB, what the code then asks for included."""
STALL_FIRST_SECONDS = 60.0
STALL_MOST_SECONDS = 3600.0
NEWER_FIRST_SECONDS = 1.0
"""While two releases share a store, a worker of the newer one is likely to be there already."""
MOST_STALLS = 10_000
MOST_WRITTEN = 10_000
"""Far more than a worker writes while a claim of its own is under way."""

_FROM_PEOPLE = (SIGNAL, UPDATE, CANCEL)
_SENT = (SignalReceived, UpdateRequested, CancelRequested)
_log = logging.getLogger("durable")


class WorkflowTasks:
    """The workflow tasks that this worker has claimed, and its warm runs."""

    def __init__(self, parts: Parts, cache_size: int) -> None:
        self._parts = parts
        self.cache = RunCache(cache_size)
        self._stalls: dict[str, tuple[Head, int]] = {}
        """So many times has this worker parked a run at this head."""
        self._written: dict[str, int] = {}
        """The number of the head that this worker wrote last, of the runs to which it wrote last."""
        self._working = 0
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def working(self) -> int:
        """How many runs are busy."""
        return self._working

    async def idle(self) -> None:
        """Wait until no run is busy."""
        await self._idle.wait()

    # --- coming in ------------------------------------------------------------------------------------------------

    async def take(self, tasks: Sequence[WorkflowTask]) -> None:
        """Work on claimed tasks. Histories of runs that are not warm are read in one call."""
        cold = [task for task in tasks if not self._is_warm(task)]
        try:
            histories = await self._read(cold)
        except BaseException:
            self.give_back(tasks)
            raise
        asyncio.get_running_loop().call_soon(self._begin, tasks, histories)

    def give_back(self, tasks: Iterable[WorkflowTask]) -> None:
        """Leave claimed tasks to others, but for news of runs that are at work here.

        With those the lease would be gone under which their activities run: they would be begun again elsewhere.
        """
        for task in tasks:
            warm = self.cache.get(task.run_id)
            if warm is not None and (warm.busy or warm.local):
                asyncio.get_running_loop().call_soon(self._begin, [task], {})
            else:
                self._parts.release_run(task)

    def begin(self, task: WorkflowTask) -> None:
        """Work on a run that was born leased to this worker. Called from a plain callback of the loop."""
        if (
            task.events is not None and self.cache.get(task.run_id) is None
        ):  # else it was claimed meanwhile, for news
            self._begin([task], {task.run_id: task.events})

    def finished(self, ref: ActivityRef, result: LocalResult) -> bool:
        """An activity ended here. ``True`` if its run is warm and takes the result; ``False``: tell the store."""
        warm = self.cache.get(ref.run_id)
        if warm is None or ref.number not in warm.local:
            return False
        warm.results.append(result)
        self.go_on(warm)
        return True

    def go_on(self, warm: WarmRun) -> None:
        """There is something to take in, or to write. A busy run looks for itself when its checkpoint was judged."""
        if not warm.busy:
            self._set_busy(warm, True)
            asyncio.get_running_loop().call_soon(self._go_on, warm)

    def not_local(self, ref: ActivityRef) -> None:
        """An attempt ended here, but not the activity: what comes next may run anywhere."""
        warm = self.cache.get(ref.run_id)
        if warm is not None:
            warm.local.discard(ref.number)

    def _is_warm(self, task: WorkflowTask) -> bool:
        warm = self.cache.get(task.run_id)
        if warm is None:
            return False
        if warm.busy or warm.head == task.head or warm.head.number > task.head.number:
            return True  # one that is behind was claimed while our checkpoint was being written: `_begin` gives it back
        self._evict(warm)
        return False

    async def _read(self, tasks: Sequence[WorkflowTask]) -> dict[str, tuple[bytes, ...]]:
        histories = {task.run_id: task.events for task in tasks if task.events is not None}
        ranges = [
            HistoryRange(instance_id=task.instance_id, run_id=task.run_id)
            for task in tasks
            if task.events is None
        ]
        if ranges:
            histories |= {piece.run_id: piece.events for piece in await self._parts.reads.read(ranges)}
        return histories

    def _begin(self, tasks: Sequence[WorkflowTask], histories: dict[str, tuple[bytes, ...]]) -> None:
        for task in tasks:
            warm = self.cache.get(task.run_id)
            if warm is not None and warm.busy:
                warm.later = (
                    task  # its checkpoint is on its way; `_accepted` knows whether this is news to it
                )
                continue
            if warm is not None and warm.head.number > task.head.number:
                continue  # our checkpoint was written behind this claim, and judged anew what is ready
            if warm is None and self._written.get(task.run_id, 0) > task.head.number:
                continue  # the same, and the run is not here any more: it has ended, or there was no room for it
            if warm is None and task.run_id in histories:
                warm = self._load(task, histories[task.run_id])
            elif warm is None or warm.head != task.head:
                # While this claim was under way, the run was evicted, or its checkpoint was written: look again.
                self._parts.release_run(task)
                continue
            if warm is not None:
                warm.task, warm.claims = task, task.claims
                self._set_busy(warm, True)
                self._go_on(warm, task)

    def _load(self, task: WorkflowTask, stored: tuple[bytes, ...]) -> WarmRun | None:
        if len(stored) < task.head.number:
            self._stall(
                task, task.head, f"its history has {len(stored)} events instead of {task.head.number}"
            )
            return None
        try:
            history = decode_history(stored[: task.head.number])
            run = self._parts.load(task.workflow, task.version, _identity(task), task.head, history)
        except Exception as error:
            if isinstance(error, MemoryError):
                self._fell(task, error)
            else:
                self._cannot_go_on(task, task.head, error)
            return None
        except BaseException as error:
            self._fell(task, error)
            return None
        size = sum(map(len, stored[: task.head.number]))
        warm = WarmRun(
            task=task,
            run=run,
            head=task.head,
            history_bytes=size,
            seen=task.seen - len(task.messages),
            claims=task.claims,
        )
        self.cache.put(warm)
        return warm

    # --- a step ---------------------------------------------------------------------------------------------------

    def _go_on(self, warm: WarmRun, task: WorkflowTask | None = None, first: Taken | None = None) -> None:
        try:
            self._step(warm, task, first)
        except Exception:
            self._abandon(warm)

    def _abandon(self, warm: WarmRun) -> None:
        """A mistake of ours. A run that stayed busy here would be nobody's for ever, with its leases renewed."""
        _log.exception("instance %r: the engine failed; the run is handed out again", warm.task.instance_id)
        self._free(warm, evict=True)
        self._parts.release_run(warm.task)

    def _step(self, warm: WarmRun, task: WorkflowTask | None, first: Taken | None) -> None:
        """One step: all that has arrived, in order of arrival; timers that are due behind messages of the same time."""
        taken = first
        seen = max(warm.seen, task.seen if task is not None else 0)
        if taken is None:
            taken = _as_much_as_fits(task.messages if task is not None else (), warm.results)
            if task is not None and len(taken.messages) < len(task.messages):
                seen = taken.messages[-1].number if taken.messages else warm.seen
        try:
            messages = [input_of(m.kind, m.body, m.key, m.sent_at_us) for m in taken.messages]
            inputs = self._inputs(warm, taken, messages, again=first is not None)
            with self._parts.hooks.around_task(
                warm.task.workflow, warm.task.instance_id, warm.run.context.started_headers
            ):
                outcome = warm.run.advance(inputs)
        except Exception as error:
            self._give_back(warm, taken.results)
            self._free(warm, evict=True)
            if isinstance(error, MemoryError):
                self._fell(warm.task, error)
            else:
                self._cannot_go_on(warm.task, warm.head, error)
            return
        except BaseException as error:
            self._give_back(warm, taken.results)
            self._free(warm, evict=True)
            self._fell(warm.task, error)
            return
        pieces = _pieces(outcome, inputs, taken, messages, before=warm.seen, seen=seen)
        if first is None and _overlooks_signals(pieces[-1].outcome):
            self._decide_again(warm, taken, ())
            return
        warm.unwritten.extend(pieces)
        self._write(warm)

    def _inputs(self, warm: WarmRun, taken: Taken, messages: list[Input], *, again: bool) -> list[Input]:
        results = [result.input for result in taken.results]
        timers = warm.run.due_timers(self._parts.clock.now_us())
        if again:
            _hold(messages)
            return [*messages, *results, *timers]
        arrived = [*messages, *results, *timers]
        if len(arrived) < 2:
            return arrived
        return sorted(arrived, key=lambda event: event.time_us)  # stable: messages first on a tie

    def _write(self, warm: WarmRun) -> None:
        piece = warm.unwritten.pop(0)
        taken = piece.taken
        if warm.run.number > MAX_HISTORY_EVENTS:
            self._too_long(warm, taken, f"{MAX_HISTORY_EVENTS} events")
            return
        piece = self._parts.local.with_owed(warm, piece)
        kept = () if warm.unwritten else self._parts.local.keep_back(warm, piece.outcome)
        if kept and _is_nothing_else(piece, len(kept)):
            self._begin_unwritten(warm, piece.outcome, kept)
            return
        written = self._drawn_up(warm, piece, kept)
        if warm.history_bytes + sum(map(len, written.checkpoint.events)) > MAX_HISTORY_BYTES:
            self._unreserve(written)
            self._too_long(warm, taken, f"{MAX_HISTORY_BYTES} bytes")
            return
        self._submit(warm, written)

    def _drawn_up(self, warm: WarmRun, piece: Piece, kept: tuple[commands.ScheduleActivity, ...]) -> Written:
        outcome, taken = piece.outcome, piece.taken
        here = self._runs_here(warm, outcome, kept)
        still_local = bool(here or kept) or len(warm.local) > len(taken.results)
        lease = self._parts.held_lease() if still_local else None
        leases = dict(warm.rowless)
        if lease is not None:
            leases |= dict.fromkeys(here, lease)
        checkpoint = checkpoint_of(
            warm.task,
            warm.head,
            outcome,
            consumed=piece.consumed,
            seen=piece.seen,
            absorbed=[one.absorbed for one in taken.results if one.absorbed.number not in warm.rowless],
            answered=taken.numbers if warm.rowless else (),
            leases=leases,
            kept=len(kept),
            lease=lease,
        )
        return Written(
            checkpoint=checkpoint,
            taken=taken,
            outcome=outcome,
            kept=kept,
            here=tuple(new for new in checkpoint.activities if new.number in here),
            cancelled=_cancelled(outcome),
        )

    def _begin_unwritten(
        self, warm: WarmRun, outcome: Outcome, kept: tuple[commands.ScheduleActivity, ...]
    ) -> None:
        """All that led to these activities is in the store, and nothing but them is new: there is nothing to write."""
        self._parts.local.start(warm, kept, outcome)
        self._parts.leases.keep_run(warm.task, True)
        self._free(warm)

    def _too_long(self, warm: WarmRun, taken: Taken, limit: str) -> None:
        self._give_back(warm, taken.results)
        self._free(warm, evict=True)
        self._stall(warm.task, warm.head, f"its history would pass {limit}: continue as new")

    def _runs_here(
        self, warm: WarmRun, outcome: Outcome, kept: tuple[commands.ScheduleActivity, ...]
    ) -> frozenset[int]:
        """Which new activities this worker starts itself as soon as they are written, instead of claiming them."""
        if outcome.end is not None:
            return frozenset()
        cancelled = _cancelled(outcome)
        wanted = [
            command.number
            for command in outcome.commands[: len(outcome.commands) - len(kept)]
            if isinstance(command, commands.ScheduleActivity)
            and command.number not in cancelled
            and command.number not in warm.rowless
            and self._parts.can_run(command.name, command.queue)
        ]
        return frozenset(self._parts.activities.reserve(wanted))

    def _submit(self, warm: WarmRun, written: Written) -> None:
        warm.ending = written.checkpoint.close is not None
        future = self._parts.commits.submit(written.checkpoint)
        future.add_done_callback(lambda done: self._judge(warm, written, done))

    # --- the verdict ----------------------------------------------------------------------------------------------

    def _judge(self, warm: WarmRun, written: Written, done: asyncio.Future[tuple[Verdict, int]]) -> None:
        try:
            self._judged(warm, written, done)
        except Exception:
            self._abandon(warm)

    def _judged(self, warm: WarmRun, written: Written, done: asyncio.Future[tuple[Verdict, int]]) -> None:
        if done.cancelled():
            self._free(warm, evict=True)
            return
        error = done.exception()
        verdict, now_us = (Refused(reason=str(error)), 0) if error is not None else done.result()
        if now_us:
            self._parts.clock.hear(now_us)
        match verdict:
            case Accepted():
                self._remember(written.checkpoint)
                self._accepted(warm, written)
            case MoreMessages(messages=more):
                self._unreserve(written)
                self._decide_again(warm, written.taken, more)
            case Refused(reason=reason):
                self._lost(warm, written)
                self._stall(warm.task, written.checkpoint.head, f"the store refused its checkpoint: {reason}")
            case Paused():
                self._remember(written.checkpoint)
                self._paused(warm, written)
            case TooEarly():
                self._lost(warm, written)
                self._parts.release_run(warm.task)
            case _:
                self._lost(warm, written)
                self._parts.release_run(warm.task)  # if it is still ours; its head or an activity is not

    def _remember(self, checkpoint: Checkpoint) -> None:
        """A claim may have been answered before this was written, and come behind it: what it says is over then."""
        self._written.pop(checkpoint.run_id, None)
        self._written[checkpoint.run_id] = checkpoint.new_head.number
        if len(self._written) > MOST_WRITTEN:
            del self._written[next(iter(self._written))]

    def _accepted(self, warm: WarmRun, written: Written) -> None:
        checkpoint = written.checkpoint
        warm.head = checkpoint.new_head
        warm.history_bytes += sum(map(len, checkpoint.events))
        warm.seen, warm.claims = checkpoint.seen, 0
        self._stalls.pop(warm.run_id, None)
        for result in written.taken.results:
            self._parts.leases.told(result.outcome.ref, result.outcome.token)
        answered = written.taken.numbers
        warm.local -= answered
        cancelled = written.cancelled if checkpoint.close is None else frozenset(warm.local)
        self._parts.local.written(warm, answered, cancelled)
        self._cancel(warm, cancelled)
        if checkpoint.close is not None:
            self._tell_the_end(warm, checkpoint, checkpoint.close)
            self._free(warm, evict=True)
            return
        if checkpoint.wake_at_us is not None:
            self._parts.claims.expect(checkpoint.wake_at_us)
        self._start_here(warm, written.here)
        self._parts.local.start(warm, written.kept, written.outcome)
        self._parts.leases.keep_run(warm.task, bool(warm.local))
        if warm.unwritten:
            self._write(warm)
            return
        later, warm.later = warm.later, None
        if later is not None and later.head == warm.head:
            warm.task = (
                later  # claimed after this checkpoint was written: nobody else will be handed its messages
            )
            self._go_on(warm, later)
        elif warm.results:
            self._go_on(warm)
        else:
            self._free(warm)

    def _tell_the_end(self, warm: WarmRun, checkpoint: Checkpoint, close: Close) -> None:
        next_run_id = checkpoint.next_run.run_id if checkpoint.next_run is not None else None
        ending = Ending(close.state, close.result, close.failure, next_run_id)
        self._parts.client.waiting.told(checkpoint.instance_id, checkpoint.run_id, ending)
        warm.ending = False

    def _cancel(self, warm: WarmRun, numbers: frozenset[int]) -> None:
        """The run wants these activities no more, nor their results, should they have ended already."""
        if not numbers:
            return
        for number in numbers & warm.local:
            warm.local.discard(number)
            self._parts.activities.cancel(_ref(warm.task, number))
        if warm.results:
            warm.results = [one for one in warm.results if one.absorbed.number not in numbers]

    def _start_here(self, warm: WarmRun, here: Iterable[NewActivity]) -> None:
        for new in here:
            assert new.lease is not None
            warm.local.add(new.number)
            task = ActivityTask(
                ref=_ref(warm.task, new.number),
                name=new.name,
                queue=new.queue,
                workflow=warm.task.workflow,
                payload=new.payload,
                options=new.options,
                attempt=1,
                deliveries=1,
                token=new.lease.token,
                scheduled_at_us=self._parts.clock.now_us(),
            )
            self._parts.activities.start(task, reserved=True)

    def _paused(self, warm: WarmRun, written: Written) -> None:
        """It was written, but people paused the instance: what runs may finish, nothing new is begun."""
        self._unreserve(written)
        self._parts.local.written(warm, written.taken.numbers, written.cancelled)
        self._cancel(warm, written.cancelled)
        self._parts.release(
            [
                ActivityLease(ref=_ref(warm.task, new.number), token=new.lease.token)
                for new in written.here
                if new.lease is not None
            ]
        )
        self._free(warm, evict=True)

    def _lost(self, warm: WarmRun, written: Written) -> None:
        """Nothing was written. What ran here is told to the store by itself, where it has a row that still stands."""
        self._unreserve(written)
        self._give_back(warm, written.taken.results)
        self._free(warm, evict=True)

    def _unreserve(self, written: Written) -> None:
        self._parts.activities.unreserve(len(written.here) + len(written.kept))

    def _give_back(self, warm: WarmRun, results: Iterable[LocalResult]) -> None:
        """Tell the store what ended here. What has no row is run again, wherever the run goes on."""
        for result in results:
            if result.absorbed.number not in warm.rowless:
                self._parts.finish(result.outcome)

    def _decide_again(self, warm: WarmRun, taken: Taken, more: Sequence[Message]) -> None:
        """The run wanted to end, but was sent something that it has not seen: it decides anew, knowing that.

        What people sent is put before the results and timers that may have led to the end, and signals are buffered
        together: otherwise the code would never see the last ones, although their senders were told that they arrived.
        Their order stays what it was.
        """
        task = warm.task
        messages = tuple(
            sorted((*taken.messages, *more), key=lambda m: (m.kind not in _FROM_PEOPLE, m.number))
        )
        again = Taken(messages=messages, results=taken.results)
        head = warm.head
        seen = max(m.number for m in again.messages)

        def resume(history: tuple[bytes, ...]) -> None:
            fresh = replace(task, head=head, messages=(), seen=seen)
            results, warm.results = warm.results, []
            rowless, warm.rowless = warm.rowless, {}
            self._free(warm, evict=True)
            renewed = self._load(fresh, history)
            if renewed is None:
                warm.rowless = rowless
                self._give_back(warm, [*again.results, *results])
                self._parts.local.drop(warm)
                return
            renewed.local, renewed.results, renewed.seen = warm.local, results, seen
            renewed.claims, renewed.rowless = warm.claims, rowless
            self._parts.local.watch(renewed)
            self._set_busy(renewed, True)
            self._go_on(renewed, first=again)

        self._parts.spawn(self._reread(warm, taken, resume))

    async def _reread(self, warm: WarmRun, taken: Taken, resume: Callable[[tuple[bytes, ...]], None]) -> None:
        try:
            histories = await self._read([replace(warm.task, events=None)])
        except Exception as error:
            _log.warning("instance %r is handed out again: %s", warm.task.instance_id, error)
            self._give_back(warm, taken.results)
            self._free(warm, evict=True)  # a run that stayed busy here would be nobody's for ever
            self._parts.release_run(warm.task)
            return
        asyncio.get_running_loop().call_soon(resume, histories.get(warm.task.run_id, ()))

    def is_ending(self, run_id: str) -> bool:
        """Whether the end of this run is on its way to the store."""
        warm = self.cache.get(run_id)
        return warm is not None and warm.ending

    # --- going out ------------------------------------------------------------------------------------------------

    def _set_busy(self, warm: WarmRun, busy: bool) -> None:
        if warm.busy == busy:
            return
        warm.busy = busy
        if busy:
            self._working += 1
            self._idle.clear()
            return
        self._working -= 1
        if self._working == 0:
            self._idle.set()
        self._parts.slot_free.set()

    def _free(self, warm: WarmRun, *, evict: bool = False) -> None:
        self._set_busy(warm, False)
        if evict:
            self._evict(warm)
        self.cache.shrink()

    def _evict(self, warm: WarmRun) -> None:
        if warm.ending:
            warm.ending = False
            self._parts.client.waiting.look(warm.task.instance_id)
        self._give_back(warm, warm.results)
        warm.results.clear()
        for piece in warm.unwritten:
            self._give_back(warm, piece.taken.results)
        warm.unwritten.clear()
        self._parts.local.drop(warm)
        self._parts.leases.keep_run(warm.task, False)
        if self.cache.get(warm.run_id) is warm:
            self.cache.evict(warm.run_id)
        else:
            warm.run.drop()

    def _cannot_go_on(self, task: WorkflowTask, head: Head, error: Exception) -> None:
        """Park a run that this code cannot go on with; nothing is written to its history."""
        if isinstance(error, NonDeterminismError):
            names = ("expected", "actual", "file", "line", "event", "task", "arguments")
            self._stall(task, head, str(error), {name: getattr(error, name) for name in names})
        elif isinstance(error, NewerFormat):
            self._parts.is_outdated = True
            text = f"{error}. A worker of a newer release is needed"
            self._stall(task, head, text, first_seconds=NEWER_FIRST_SECONDS)
        elif isinstance(error, RecursionError):
            self._too_deep(task, head, error)
        else:
            self._stall(task, head, f"{type(error).__name__}: {error}")

    def _too_deep(self, task: WorkflowTask, head: Head, error: RecursionError) -> None:
        """How deep is too deep differs from host to host, so it is no outcome of the run; but people should see it."""
        site = site_of_error(error)
        place, details = "", {}
        if site is not None:
            place, details = f" at {site.file}:{site.line}", {"file": site.file, "line": site.line}
        text = f"RecursionError: {error}{place}. Its code calls itself too deeply: correct it, or resume the instance"
        self._stall(task, head, text, details)

    def _stall(
        self,
        task: WorkflowTask,
        head: Head,
        message: str,
        details: Mapping[str, object] | None = None,
        first_seconds: float = STALL_FIRST_SECONDS,
    ) -> None:
        definition = self._parts.registry.workflow(task.workflow, task.version)
        stalls = self._count_stall(task.run_id, head)
        delay = min(first_seconds * 2.0 ** (stalls - 1), STALL_MOST_SECONDS)
        problem = Problem(
            report=orjson.dumps({"message": message, **(details or {})}).decode(),
            build=self._parts.build_of(definition) if definition is not None else "",
            stalls=stalls,
        )
        _log.error("instance %r is stalled: %s", task.instance_id, message)
        self._parts.change(
            Stall(
                ref=InstanceRef(instance_id=task.instance_id, run_id=task.run_id),
                head=head,
                problem=problem,
                retry_after_us=round(delay * 1e6),
            )
        )

    def _count_stall(self, run_id: str, head: Head) -> int:
        last, count = self._stalls.pop(run_id, (head, 0))
        count = 1 if last != head else min(count + 1, 50)
        self._stalls[run_id] = (head, count)
        if len(self._stalls) > MOST_STALLS:
            del self._stalls[next(iter(self._stalls))]  # the one that was parked longest ago
        return count

    def _fell(self, task: WorkflowTask, error: BaseException) -> None:
        """KeyboardInterrupt, SystemExit, MemoryError and their like in a step: drop the run, write nothing."""
        if isinstance(error, StepTooLong):
            limit = self._parts.watchdog.interrupt_after_seconds
            self._stall(
                task,
                task.head,
                f"a step kept the worker's loop busy for over {limit:g} s; the log has its stack",
            )
            return
        _log.error("instance %r: its step was left by %r; it is handed out again", task.instance_id, error)
        if isinstance(
            error, KeyboardInterrupt
        ):  # a person's; a workflow's own sys.exit() must not end its neighbours
            raise error


def _as_much_as_fits(messages: Sequence[Message], results: list[LocalResult]) -> Taken:
    """At least one input, and no more than a checkpoint can hold; ``results`` loses what is taken.

    However much arrives together, every single one of it is legal: the rest waits for the next checkpoint.
    """
    if not messages and len(results) < 2:
        return Taken(results=(results.pop(),)) if results else NOTHING_TAKEN
    room = INPUT_BYTES
    some: list[Message] = []
    for message in messages:
        room -= len(message.body)
        if some and room < 0:
            break
        some.append(message)
    taken: list[LocalResult] = []
    for result in results:
        room -= len(result.outcome.body)
        if room < 0 and (some or taken):
            break
        taken.append(result)
    del results[: len(taken)]
    return Taken(messages=tuple(some), results=tuple(taken))


def _is_nothing_else(piece: Piece, kept: int) -> bool:
    """The last so many events are all that there is to write."""
    outcome, taken = piece.outcome, piece.taken
    if len(outcome.events) > kept or taken.messages or taken.results:
        return False
    return not (outcome.published or outcome.vars or outcome.status is not None)


def _cancelled(outcome: Outcome) -> frozenset[int]:
    if not outcome.commands:
        return frozenset()
    return frozenset(c.number for c in outcome.commands if isinstance(c, commands.CancelActivity))


def _overlooks_signals(outcome: Outcome) -> bool:
    """The run ends for good, with signals in hand that no code has seen."""
    if outcome.end is None or not outcome.left or isinstance(outcome.end, commands.ContinueRun):
        return False
    return any(isinstance(event, SignalReceived) for event in outcome.left)


def _pieces(
    outcome: Outcome,
    inputs: Sequence[Input],
    taken: Taken,
    messages: Sequence[Input],
    *,
    before: int,
    seen: int,
) -> list[Piece]:
    """An outcome and what did not fit into its checkpoint, each with its share of what was taken in."""
    if not outcome.further:
        return [Piece(outcome=outcome, taken=taken, consumed=_consumed(outcome, taken, messages), seen=seen)]
    pieces: list[Piece] = []
    rest = list(inputs)
    for one in (outcome, *outcome.further):
        own, rest = {id(event) for event in rest[: one.inputs]}, rest[one.inputs :]
        pairs = [pair for pair in zip(taken.messages, messages, strict=True) if id(pair[1]) in own]
        share = Taken(
            messages=tuple(message for message, _ in pairs),
            results=tuple(result for result in taken.results if id(result.input) in own),
        )
        used_up = _consumed(one, share, [event for _, event in pairs])
        # Not before the last piece has the run seen all that came.
        pieces.append(Piece(outcome=one, taken=share, consumed=used_up, seen=seen if not rest else before))
    return pieces


def _consumed(outcome: Outcome, taken: Taken, inputs: Sequence[Input]) -> tuple[int, ...]:
    """The messages that this step used up. What came behind a continue-as-new stays for the next run."""
    if not taken.messages:
        return ()
    left: set[int] = set()
    if isinstance(outcome.end, commands.ContinueRun):
        left = {id(event) for event in outcome.left}
    return tuple(
        message.number for message, event in zip(taken.messages, inputs, strict=True) if id(event) not in left
    )


def _hold(inputs: list[Input]) -> None:
    """Signals are buffered together with what people sent next, before any code runs."""
    for place, (event, following) in enumerate(pairwise(inputs)):
        if isinstance(event, SignalReceived) and isinstance(following, _SENT):
            inputs[place] = replace(event, held=True)


def _ref(task: WorkflowTask, number: int) -> ActivityRef:
    return ActivityRef(instance_id=task.instance_id, run_id=task.run_id, number=number)


def _identity(task: WorkflowTask) -> RunIdentity:
    parent = None if task.parent is None else (task.parent.instance_id, task.parent.run_id)
    return RunIdentity(
        instance_id=task.instance_id,
        run_id=task.run_id,
        first_run_id=task.first_run_id or task.run_id,
        parent=parent,
    )
