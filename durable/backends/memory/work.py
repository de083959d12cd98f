"""The memory store's `WorkerStore`: claims, checkpoints, activity results, leases, answers.

Claims are generators over what is due: each hands out one row when it is asked for one, so a limit is just a
slice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import islice

from durable.backends.limits import refuse_checkpoint
from durable.backends.memory.claims import Claims, Handed
from durable.backends.memory.client import REPLIES_KEPT_US, create_one
from durable.backends.memory.due import DueQueue
from durable.backends.memory.rows import (
    ActivityKey,
    ActivityRow,
    BacklogRow,
    HeldBy,
    QuestionRow,
    RunKey,
    RunRow,
)
from durable.backends.memory.tables import NEVER_US, Tables, held_by
from durable.backends.records import (
    MAX_CLAIMS,
    MAX_MESSAGES_PER_TASK,
    OUTCOME,
    Accepted,
    ActivityFinished,
    ActivityLease,
    ActivityOutcome,
    ActivityParked,
    ActivityRef,
    ActivityRetry,
    ActivityTask,
    Answer,
    AskedTask,
    Cancelled,
    Checkpoint,
    ChildRef,
    Claimant,
    Closing,
    Created,
    Definition,
    Extended,
    Finished,
    Full,
    HistoryRange,
    HistorySlice,
    Lease,
    Lost,
    Message,
    MoreMessages,
    NewActivity,
    NewMessage,
    NotFound,
    OutcomeWord,
    Overdue,
    Paused,
    Problem,
    Refused,
    Reply,
    Send,
    StartChild,
    TooEarly,
    Verdict,
    WorkflowLease,
    WorkflowTask,
)

CHILDREN_AT_ONCE = 100

_WORDS: dict[type[Verdict], OutcomeWord] = {
    Accepted: "delivered",
    NotFound: "not_found",
    Finished: "finished",
    Full: "full",
}


class MemoryWorkerStore:
    """See `durable.backends.contract.WorkerStore`."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._claims = Claims()

    # --- claims of runs -------------------------------------------------------------------------------------

    async def claim_workflow_tasks(
        self, claimant: Claimant, limit: int
    ) -> Answer[WorkflowTask | Overdue | Closing]:
        now_us = self._tables.now()
        shelves = self._shelves(claimant)
        items: list[WorkflowTask | Overdue | Closing] = self._claims.hand_out(
            "workflow",
            claimant,
            limit,
            self._overdue(claimant, now_us),
            self._closings(claimant, now_us),
            self._ready(claimant, shelves, now_us),
        )
        # Anew: what was handed out may have its next timer on a shelf that only this claim has made.
        next_us = _earliest(self._tables.overdue, self._tables.closings, *self._shelves(claimant))
        return Answer(now_us=now_us, items=items, next_wake_us=next_us)

    async def claim_stalled_tasks(
        self, claimant: Claimant, limit: int, *, at_start: bool
    ) -> Answer[WorkflowTask]:
        now_us = self._tables.now()
        source = self._of_other_builds if at_start else self._to_be_retried
        items: list[WorkflowTask] = self._claims.hand_out(
            "stalled", claimant, limit, source(claimant, now_us)
        )
        next_us = None if at_start else _earliest(*(shelf for _, shelf in self._stalled_shelves(claimant)))
        return Answer(now_us=now_us, items=items, next_wake_us=None if next_us == NEVER_US else next_us)

    def _shelves(self, claimant: Claimant) -> list[DueQueue[RunKey]]:
        """Where runs wait that this claimant may have: those for anybody, and those that it has a lease on."""
        ready = self._tables.ready
        kinds = [(queue, d.workflow, d.version) for queue in claimant.queues for d in claimant.workflows]
        keys = [(holder, kind) for kind in dict.fromkeys(kinds) for holder in ("", claimant.worker_id)]
        return [ready[key] for key in keys if key in ready]

    def _ready(
        self, claimant: Claimant, shelves: Sequence[DueQueue[RunKey]], now_us: int
    ) -> Iterator[Handed[WorkflowTask]]:
        while entries := [first for shelf in shelves if (first := shelf.first()) and first[0] <= now_us]:
            _, _, key = min(entries)
            run = self._run(key)
            if run.claims >= MAX_CLAIMS and not _is_held_by(run, claimant, now_us):
                self._park(run, claimant)
            else:
                yield self._hand_run(run, claimant, now_us)

    def _hand_run(self, run: RunRow, claimant: Claimant, now_us: int) -> Handed[WorkflowTask]:
        lease = held_by(claimant, now_us)
        if not _is_held_by(run, claimant, now_us):  # who is handed what it holds, for there is news, is alive
            run.claims += 1
        self._tables.lease(run, lease)
        # The claim takes in what has happened; a timer to come makes the run ready for its own worker again.
        run.ready_at_us = run.wake_at_us if run.wake_at_us is not None and run.wake_at_us > now_us else None
        self._tables.place(run)
        return Handed(self._task(run), lambda: run.lease is lease)

    def _task(self, run: RunRow) -> WorkflowTask:
        instance = self._tables.instances[run.instance_id]
        messages = tuple(row.message for row in islice(instance.inbox.values(), MAX_MESSAGES_PER_TASK))
        return WorkflowTask(
            instance_id=run.instance_id,
            run_id=run.run_id,
            workflow=run.workflow,
            version=run.version,
            queue=run.queue,
            state=run.state,
            head=run.head,
            history_bytes=run.history_bytes,
            messages=messages,
            seen=instance.sent if len(messages) == len(instance.inbox) else messages[-1].number,
            claims=run.claims,
            parent=run.parent,
            wake_at_us=run.wake_at_us,
            deadline_us=run.deadline_us,
            first_run_id=run.first_run_id,
            events=tuple(run.events) if len(run.events) == 1 else None,
        )

    def _park(self, run: RunRow, claimant: Claimant) -> None:
        """Claimed ten times, and no checkpoint came of it: it seems to kill its workers. Time does not heal that."""
        build = next((d.build for d in claimant.workflows if _runs(d, run)), "")
        report = f'{{"kind": "worker_lost", "message": "claimed {run.claims} times without a checkpoint"}}'
        run.state, run.retry_at_us = "stalled", None
        run.problem = Problem(report=report, build=build)
        self._tables.lease(run, None)
        self._tables.place(run)

    def _overdue(self, claimant: Claimant, now_us: int) -> Iterator[Handed[Overdue]]:
        queue, until_us = self._tables.overdue, held_by(claimant, now_us).until_us
        while (key := queue.due(now_us)) is not None:
            run = self._run(key)
            assert run.deadline_us is not None
            task = Overdue(
                instance_id=run.instance_id,
                run_id=run.run_id,
                workflow=run.workflow,
                deadline_us=run.deadline_us,
                parent=run.parent,
            )
            yield Handed(task, _hold(queue, key, until_us))

    def _closings(self, claimant: Claimant, now_us: int) -> Iterator[Handed[Closing]]:
        queue, until_us = self._tables.closings, held_by(claimant, now_us).until_us
        while (key := queue.due(now_us)) is not None:
            children = list(islice(self._tables.children_to_close(key), CHILDREN_AT_ONCE + 1))
            if not children:
                self._close_no_more(key)
                continue
            closing = Closing(
                instance_id=key[0],
                run_id=key[1],
                children=tuple(map(_child_ref, children[:CHILDREN_AT_ONCE])),
                more=len(children) > CHILDREN_AT_ONCE,
            )
            yield Handed(closing, _hold(queue, key, until_us))

    async def close_done(self, closings: Sequence[Closing]) -> Answer[Accepted]:
        now_us = self._tables.now()
        for closing in closings:
            key = (closing.instance_id, closing.run_id)
            if next(self._tables.children_to_close(key), None) is None:
                self._close_no_more(key)
            elif key in self._tables.closings:
                self._tables.closings.put(key, now_us)
                self._tables.bell.ring("workflow")
        return Answer(now_us=now_us, items=[Accepted() for _ in closings])

    def _close_no_more(self, key: RunKey) -> None:
        self._tables.closings.put(key, None)

    def _stalled_shelves(self, claimant: Claimant) -> Iterator[tuple[Definition, DueQueue[RunKey]]]:
        for definition in claimant.workflows:
            for queue in claimant.queues:
                kind = (queue, definition.workflow, definition.version)
                if kind in self._tables.stalled:
                    yield definition, self._tables.stalled[kind]

    def _of_other_builds(self, claimant: Claimant, now_us: int) -> Iterator[Handed[WorkflowTask]]:
        for definition, shelf in self._stalled_shelves(claimant):
            for key in shelf.all_keys():
                run = self._run(key)
                free = run.lease is None or run.lease.until_us <= now_us
                if free and run.problem is not None and run.problem.build != definition.build:
                    yield self._hand_run(run, claimant, now_us)

    def _to_be_retried(self, claimant: Claimant, now_us: int) -> Iterator[Handed[WorkflowTask]]:
        for _, shelf in self._stalled_shelves(claimant):
            while (key := shelf.due(now_us)) is not None:
                yield self._hand_run(self._run(key), claimant, now_us)

    async def read_history(self, ranges: Sequence[HistoryRange]) -> Answer[HistorySlice]:
        now_us = self._tables.now()
        return Answer(now_us=now_us, items=[self._slice(wanted) for wanted in ranges])

    def _slice(self, wanted: HistoryRange) -> HistorySlice:
        run = self._tables.run(wanted.instance_id, wanted.run_id)
        return HistorySlice(
            instance_id=wanted.instance_id,
            run_id=wanted.run_id,
            after=wanted.after,
            events=() if run is None else tuple(run.events[max(0, wanted.after) :]),
        )

    # --- checkpoints ----------------------------------------------------------------------------------------

    async def commit(self, checkpoints: Sequence[Checkpoint]) -> Answer[Verdict]:
        now_us = self._tables.now()
        return Answer(now_us=now_us, items=[self._commit_one(one, now_us) for one in checkpoints])

    def _commit_one(self, checkpoint: Checkpoint, now_us: int) -> Verdict:
        if (refused := refuse_checkpoint(checkpoint)) is not None:
            return refused
        run = self._tables.run(checkpoint.instance_id, checkpoint.run_id)
        if run is None:
            return Lost()
        if run.head != checkpoint.new_head:  # else it was accepted before, and only its answer is missing
            if (objection := self._objection(run, checkpoint, now_us)) is not None:
                return objection
            self._write(run, checkpoint, now_us)
        return self._acceptance(run, checkpoint)

    def _objection(self, run: RunRow, checkpoint: Checkpoint, now_us: int) -> Verdict | None:
        """Why a checkpoint cannot be accepted; after this nothing can go wrong with it."""
        if not run.is_open or run.head != checkpoint.head:
            return Lost()
        if not all(_stands(run.activities.get(one.number), one.token) for one in checkpoint.absorbed):
            return Lost()
        if checkpoint.fired_until_us is not None and checkpoint.fired_until_us > now_us:
            return TooEarly()
        if checkpoint.close is not None and (unseen := self._unseen(checkpoint)):
            return MoreMessages(messages=unseen)
        return self._clash(run, checkpoint)

    def _unseen(self, checkpoint: Checkpoint) -> tuple[Message, ...]:
        instance, consumed = self._tables.instances[checkpoint.instance_id], set(checkpoint.consumed)
        if not instance.unseen(checkpoint.seen):
            return ()
        unread = (row.message for number, row in instance.inbox.items() if number > checkpoint.seen)
        unseen = (message for message in unread if message.number not in consumed)
        return tuple(islice(unseen, MAX_MESSAGES_PER_TASK))

    def _clash(self, run: RunRow, checkpoint: Checkpoint) -> Refused | None:
        numbers = [activity.number for activity in checkpoint.activities]
        if len(set(numbers)) < len(numbers) or not run.activities.keys().isdisjoint(numbers):
            return Refused(
                reason=f"{run.instance_id!r} already has an activity of one of the numbers {numbers}"
            )
        new = checkpoint.next_run
        if new is not None and self._tables.run(new.instance_id, new.run_id) is not None:
            return Refused(reason=f"{new.instance_id!r} already has a run {new.run_id!r}")
        return None

    def _write(self, run: RunRow, checkpoint: Checkpoint, now_us: int) -> None:
        run.append(checkpoint.events, checkpoint.new_head, now_us)
        self._write_fields(run, checkpoint, now_us)
        self._write_activities(run, checkpoint, now_us)
        self._write_outbox(run, checkpoint, now_us)
        for reply in checkpoint.replies:
            self._reply_to_update(reply)
        effects: list[Send | StartChild] = [*checkpoint.sends, *checkpoint.children]
        for effect in sorted(effects, key=lambda one: one.number):
            self._act_on_another(run, effect, now_us)
        if checkpoint.close is not None:
            self._end(run, checkpoint, now_us)
            return
        run.ready_at_us = checkpoint.wake_at_us
        if self._tables.instances[run.instance_id].unseen(checkpoint.seen):
            self._tables.make_ready(run, now_us)
        self._tables.place(run)

    def _write_fields(self, run: RunRow, checkpoint: Checkpoint, now_us: int) -> None:
        inbox = self._tables.instances[run.instance_id].inbox
        for number in checkpoint.consumed:
            inbox.pop(number, None)
        run.vars.update(checkpoint.vars)
        run.status = run.status if checkpoint.status is None else checkpoint.status
        run.seen, run.wake_at_us = checkpoint.seen, checkpoint.wake_at_us
        run.claims, run.problem, run.retry_at_us = 0, None, None
        run.state = "running" if run.state == "stalled" else run.state
        self._tables.lease(run, None if checkpoint.lease is None else held_by(checkpoint.lease, now_us))

    def _write_activities(self, run: RunRow, checkpoint: Checkpoint, now_us: int) -> None:
        for number in (*checkpoint.withdrawn, *(one.number for one in checkpoint.absorbed)):
            if (row := run.activities.get(number)) is not None:
                self._tables.drop_activity(row)
        for new in checkpoint.activities:
            row = _activity(run, new, now_us)
            run.activities[new.number] = row
            self._tables.place_activity(row)
            if row.lease is None and run.state != "paused":
                self._tables.bell.ring("activity")

    def _write_outbox(self, run: RunRow, checkpoint: Checkpoint, now_us: int) -> None:
        if not checkpoint.outbox:
            return
        backlog = self._tables.outbox.setdefault(run.key, BacklogRow())
        for event in checkpoint.outbox:
            backlog.events[event.id] = replace(event, headers=dict(event.headers))
            self._tables.outbox_ids[event.id] = run.key
        if run.key not in self._tables.outbox_due:
            self._tables.outbox_due.put(run.key, now_us)

    def _reply_to_update(self, reply: Reply) -> None:
        if (instance := self._tables.instances.get(reply.instance_id)) is not None:
            instance.update_replies.setdefault(reply.id, reply.body)
            self._tables.bell.ring("reply")

    def _act_on_another(self, run: RunRow, effect: Send | StartChild, now_us: int) -> None:
        if isinstance(effect, Send):
            word = _WORDS[type(self._tables.deliver(effect.message, now_us))]
        else:
            started = isinstance(create_one(self._tables, effect.instance, now_us), Created)
            word = "started" if started else "taken"
        self._come_back(run, effect.number, word, now_us)

    def _come_back(self, run: RunRow, number: int, word: OutcomeWord, now_us: int) -> None:
        message = NewMessage(
            instance_id=run.instance_id,
            run_id=run.run_id,
            key=f"outcome/{run.run_id}/{number}",
            kind=OUTCOME,
            body=f"{number} {word}",
        )
        self._tables.deliver(message, now_us, limited=False)

    def _end(self, run: RunRow, checkpoint: Checkpoint, now_us: int) -> None:
        assert checkpoint.close is not None
        paused, reason = run.state == "paused", run.reason
        self._tables.close(run, checkpoint.close, now_us, continued=checkpoint.next_run is not None)
        if checkpoint.next_run is None:
            return
        following = self._tables.insert(checkpoint.next_run, now_us, before=run)
        if paused:  # people paused the instance, not only this life of it
            following.state, following.reason = "paused", reason
            self._tables.place(following)

    def _acceptance(self, run: RunRow, checkpoint: Checkpoint) -> Accepted | Paused:
        """The answer to a checkpoint that is written, the first time and each time that it is repeated."""
        last = self._tables.run(run.instance_id, run.next_run_id) if run.next_run_id else run
        if last is None or not last.is_open:
            return Accepted()
        if last.state == "paused":
            return Paused()
        return Accepted(unread=self._tables.instances[run.instance_id].unseen(checkpoint.seen))

    # --- activities -----------------------------------------------------------------------------------------

    async def claim_activity_tasks(self, claimant: Claimant, limit: int) -> Answer[ActivityTask]:
        now_us = self._tables.now()
        tables = self._tables
        keys = [(queue, name) for queue in claimant.queues for name in claimant.activities]
        shelves = [tables.activities[key] for key in dict.fromkeys(keys) if key in tables.activities]
        items: list[ActivityTask] = self._claims.hand_out(
            "activity",
            claimant,
            limit,
            self._attempts(claimant, [tables.expiring], now_us),
            self._attempts(claimant, shelves, now_us),
        )
        return Answer(now_us=now_us, items=items, next_wake_us=_earliest(tables.expiring, *shelves))

    def _attempts(
        self, claimant: Claimant, shelves: Sequence[DueQueue[ActivityKey]], now_us: int
    ) -> Iterator[Handed[ActivityTask]]:
        while entries := [first for shelf in shelves if (first := shelf.first()) and first[0] <= now_us]:
            _, _, (instance_id, run_id, number) = min(entries)
            row = self._run((instance_id, run_id)).activities[number]
            yield self._hand_attempt(row, claimant, now_us)

    def _hand_attempt(self, row: ActivityRow, claimant: Claimant, now_us: int) -> Handed[ActivityTask]:
        row.expired |= row.expires_at_us is not None and row.expires_at_us <= now_us
        row.parked, row.parked_until_us = False, None
        row.lease = lease = held_by(claimant, now_us)
        row.token = claimant.token
        row.deliveries += 1
        self._tables.place_activity(row)
        task = ActivityTask(
            ref=row.ref,
            name=row.new.name,
            queue=row.new.queue,
            workflow=row.workflow,
            payload=row.new.payload,
            options=row.new.options,
            attempt=row.attempt,
            deliveries=row.deliveries,
            token=row.token,
            scheduled_at_us=row.scheduled_at_us,
            details=row.details,
            failure=row.failure,
            expired=row.expired,
        )
        return Handed(task, lambda: self._tables.activity(row.ref) is row and row.lease is lease)

    async def finish_activities(self, outcomes: Sequence[ActivityOutcome]) -> Answer[Verdict]:
        now_us = self._tables.now()
        return Answer(now_us=now_us, items=[self._finish_one(one, now_us) for one in outcomes])

    def _finish_one(self, outcome: ActivityOutcome, now_us: int) -> Verdict:
        row = self._tables.activity(outcome.ref)
        if row is None:
            return Lost()
        if isinstance(outcome, ActivityParked) and row.parked and row.token == outcome.new_token:
            return Accepted()
        if not _stands(row, outcome.token):
            return Lost()
        match outcome:
            case ActivityFinished():
                self._finished(row, outcome, now_us)
            case ActivityRetry():
                self._retried(row, outcome, now_us)
            case ActivityParked():
                self._parked(row, outcome, now_us)
        return Accepted()

    def _finished(self, row: ActivityRow, outcome: ActivityFinished, now_us: int) -> None:
        self._tables.drop_activity(row)
        message = NewMessage(
            instance_id=row.ref.instance_id,
            run_id=row.ref.run_id,
            key=f"activity/{row.ref.run_id}/{row.ref.number}",
            kind=outcome.kind,
            body=outcome.body,
        )
        self._tables.deliver(message, now_us, limited=False)

    def _retried(self, row: ActivityRow, outcome: ActivityRetry, now_us: int) -> None:
        row.attempt += 1
        row.failure = outcome.failure
        row.deliveries, row.expired = 0, False
        row.parked, row.parked_until_us = False, None
        self._free(row, now_us + max(0, outcome.delay_us))
        self._tables.bell.ring("activity")  # also with a delay: whoever claims learns when to come again

    def _parked(self, row: ActivityRow, outcome: ActivityParked, now_us: int) -> None:
        row.parked = True
        row.parked_until_us = None if outcome.timeout_us is None else now_us + outcome.timeout_us
        row.expired = False
        row.lease, row.token = None, outcome.new_token
        self._tables.place_activity(row)

    def _free(self, row: ActivityRow, ready_at_us: int) -> None:
        row.lease, row.token, row.ready_at_us = None, "", ready_at_us
        self._tables.place_activity(row)

    # --- leases ---------------------------------------------------------------------------------------------

    async def extend(self, leases: Sequence[Lease]) -> Answer[Extended | Cancelled | Lost]:
        now_us = self._tables.now()
        return Answer(now_us=now_us, items=[self._extend_one(lease, now_us) for lease in leases])

    def _extend_one(self, lease: Lease, now_us: int) -> Extended | Cancelled | Lost:
        if isinstance(lease, ActivityLease):
            return self._extend_activity(lease, now_us)
        run = self._tables.run(lease.instance_id, lease.run_id)
        if run is None or not run.is_open:
            return Cancelled()
        if run.lease is None or run.lease.worker_id != lease.worker_id:
            return Lost()
        run.lease.until_us = now_us + lease.lease_us
        self._tables.place(run)
        return Extended()

    def _extend_activity(self, lease: ActivityLease, now_us: int) -> Extended | Cancelled | Lost:
        row = self._tables.activity(lease.ref)
        if row is None:
            return Cancelled()
        if row.lease is None or not _stands(row, lease.token):
            return Lost()
        row.lease.until_us = now_us + lease.lease_us
        row.details = row.details if lease.details is None else lease.details
        self._tables.place_activity(row)
        return Extended()

    async def release(self, leases: Sequence[Lease]) -> Answer[Accepted | Lost]:
        now_us = self._tables.now()
        return Answer(now_us=now_us, items=[self._release_one(lease, now_us) for lease in leases])

    def _release_one(self, lease: Lease, now_us: int) -> Accepted | Lost:
        if isinstance(lease, WorkflowLease):
            return self._release_run(lease, now_us)
        row = self._tables.activity(lease.ref)
        if row is None or row.lease is None or not _stands(row, lease.token):
            return Lost()
        row.deliveries -= 1
        self._free(row, now_us)
        self._tables.bell.ring("activity")
        return Accepted()

    def _release_run(self, lease: WorkflowLease, now_us: int) -> Accepted | Lost:
        run = self._tables.run(lease.instance_id, lease.run_id)
        if run is None or run.lease is None or run.lease.worker_id != lease.worker_id:
            return Lost()
        run.claims = max(0, run.claims - 1)
        self._tables.lease(run, None)
        self._tables.make_ready(run, now_us)
        return Accepted()

    # --- questions ------------------------------------------------------------------------------------------

    async def claim_questions(self, claimant: Claimant, limit: int) -> Answer[AskedTask]:
        now_us = self._tables.now()
        items: list[AskedTask] = self._claims.hand_out(
            "question", claimant, limit, self._asked(claimant, now_us)
        )
        held = (row.lease.until_us for row in self._tables.unanswered.values() if row.lease is not None)
        return Answer(now_us=now_us, items=items, next_wake_us=min(held, default=None))

    def _asked(self, claimant: Claimant, now_us: int) -> Iterator[Handed[AskedTask]]:
        for key, row in list(self._tables.unanswered.items()):
            run = self._tables.at(row.question.ref)
            if run is None or row.expires_at_us <= now_us:
                del self._tables.unanswered[key]
                continue
            free = row.lease is None or row.lease.until_us <= now_us
            if free and any(_runs(definition, run) for definition in claimant.workflows):
                row.lease = lease = held_by(claimant, now_us)
                yield Handed(_asked_task(row, run), _still_asked(row, lease))

    async def answer(self, replies: Sequence[Reply]) -> Answer[Accepted | Lost]:
        now_us = self._tables.now()
        return Answer(now_us=now_us, items=[self._answer_one(reply, now_us) for reply in replies])

    def _answer_one(self, reply: Reply, now_us: int) -> Accepted | Lost:
        key = (reply.instance_id, reply.id)
        row = self._tables.unanswered.pop(key, None)
        if row is None or row.expires_at_us <= now_us:
            return Lost()
        row.reply = reply.body
        self._tables.old_questions.put(key, now_us + REPLIES_KEPT_US)
        self._tables.bell.ring("reply")
        return Accepted()

    def _run(self, key: RunKey) -> RunRow:
        run = self._tables.run(*key)
        assert run is not None, f"{key} is due, but there is no such run"
        return run


def _earliest(*queues: DueQueue[RunKey] | DueQueue[ActivityKey]) -> int | None:
    return min((due for queue in queues if (due := queue.next_us()) is not None), default=None)


def _hold(queue: DueQueue[RunKey], key: RunKey, until_us: int) -> Callable[[], bool]:
    queue.put(key, until_us)
    return lambda: queue.due_us(key) == until_us


def _still_asked(row: QuestionRow, lease: HeldBy) -> Callable[[], bool]:
    return lambda: row.reply is None and row.lease is lease


def _is_held_by(run: RunRow, claimant: Claimant, now_us: int) -> bool:
    lease = run.lease
    return lease is not None and lease.worker_id == claimant.worker_id and lease.until_us > now_us


def _stands(row: ActivityRow | None, token: str) -> bool:
    return row is not None and row.token == token and token != ""


def _runs(definition: Definition, run: RunRow) -> bool:
    return (definition.workflow, definition.version) == (run.workflow, run.version)


def _child_ref(child: RunRow) -> ChildRef:
    assert child.parent is not None
    return ChildRef(instance_id=child.instance_id, run_id=child.run_id, close=child.parent.close)


def _activity(run: RunRow, new: NewActivity, now_us: int) -> ActivityRow:
    ref = ActivityRef(instance_id=run.instance_id, run_id=run.run_id, number=new.number)
    row = ActivityRow(ref=ref, workflow=run.workflow, new=new, scheduled_at_us=now_us, ready_at_us=now_us)
    if new.lease is not None:  # born claimed: its writer has its first attempt
        row.lease, row.token, row.deliveries = held_by(new.lease, now_us), new.lease.token, 1
    return row


def _asked_task(row: QuestionRow, run: RunRow) -> AskedTask:
    return AskedTask(
        question_id=row.question.id,
        name=row.question.name,
        body=row.question.body,
        instance_id=run.instance_id,
        run_id=run.run_id,
        workflow=run.workflow,
        version=run.version,
        head=run.head,
    )
