"""Looks over a whole store for what must never be: the structural invariants that can be seen without reading events.

A store that works finds nothing, ever. What it cannot see is whether a run without message, timer, activity and child
waits for a signal from people, as it may, or is stranded: only the run's history tells.

- I2 gap-free: a head's number is the number of events.
- I3 one end: a finished run says when it ended, an unfinished one does not.
- I4 an end is an end: nothing of a finished run can be claimed, nor is anything unread by it.
- I5 one unfinished run: at most one for each id, and it is the current one.
- I7 nothing waits on nothing: an unfinished run has something that will make it ready, and is found when it
  is.
- I8 nothing outlives its cause: what claims look at belongs to something that is there.
- I14 each message once: the key of an unread message is remembered.
"""

from __future__ import annotations

from collections.abc import Iterator

from durable.backends.memory.rows import InstanceRow, RunRow
from durable.backends.memory.tables import Tables
from durable.backends.records import ANSWER_KINDS, Finding, Problem

_I7 = "I7 nothing waits on nothing"
_I8 = "I8 nothing outlives its cause"
_TORN = '{"kind": "unreadable", "message": "the history does not fit its head; see the audit of the store"}'


def audit(tables: Tables, now_us: int, *, repair: bool) -> Iterator[Finding]:
    """What is broken; with ``repair``, what can be mended is."""
    for instance in list(tables.instances.values()):
        yield from _one_unfinished(instance)
        for run in instance.runs.values():
            yield from _gap_free(tables, run, repair)
            yield from _one_end(run)
            yield from _after_the_end(tables, run, repair)
        yield from _nothing_waits_on_nothing(tables, instance, now_us, repair)
        yield from _deadline_is_kept(tables, instance.current, repair)
        yield from _activities_are_found(tables, instance.current, repair)
        yield from _unread_is_for_somebody(instance, repair)
    yield from _children_are_closed(tables, now_us, repair)
    yield from _questions_are_asked(tables, now_us, repair)
    yield from _outlived(tables, repair)


def _gap_free(tables: Tables, run: RunRow, repair: bool) -> Iterator[Finding]:
    if run.head.number == len(run.events) and run.events:
        return
    detail = f"the head has number {run.head.number}, the history {len(run.events)} events"
    if repair and run.state == "running":
        run.state, run.retry_at_us, run.problem = "stalled", None, Problem(report=_TORN, build="")
        tables.lease(run, None)
        tables.place(run)
        tables.overdue.put(run.key, None)
        detail += "; no event can be made up, so the run is parked (stalled)"
    yield _finding("I2 gap-free", run, detail)


def _one_end(run: RunRow) -> Iterator[Finding]:
    if run.is_open == (run.closed_at_us is not None):
        yield _finding("I3 one end", run, f"the run is {run.state}, but closed at {run.closed_at_us}")


def _after_the_end(tables: Tables, run: RunRow, repair: bool) -> Iterator[Finding]:
    left = [] if run.is_open else _left_over(tables, run)
    if not left:
        return
    if repair:
        for activity in list(run.activities.values()):
            tables.drop_activity(activity)
        tables.lease(run, None)
        run.ready_at_us = run.wake_at_us = None
        tables.overdue.put(run.key, None)
        tables.place(run)
    yield _finding("I4 an end is an end", run, f"still there: {', '.join(left)}", repaired=repair)


def _left_over(tables: Tables, run: RunRow) -> list[str]:
    left = [f"activity {number}" for number in run.activities]
    left += ["a lease"] if run.lease is not None else []
    left += ["a wake-up time"] if run.wake_at_us is not None or run.ready_at_us is not None else []
    left += ["a deadline"] if run.key in tables.overdue else []
    left += ["a place among ready runs"] if any(run.key in queue for queue in tables.ready.values()) else []
    return left


def _one_unfinished(instance: InstanceRow) -> Iterator[Finding]:
    for run in instance.runs.values():
        if run.is_open and run is not instance.current:
            yield _finding("I5 one unfinished run", run, f"the current run is {instance.current.run_id}")


def _nothing_waits_on_nothing(
    tables: Tables, instance: InstanceRow, now_us: int, repair: bool
) -> Iterator[Finding]:
    run = instance.current
    if run.state == "stalled" and run.key not in tables.stalled[run.queue, run.workflow, run.version]:
        if repair:
            tables.place(run)
        yield _finding(_I7, run, "the stalled run would not be tried again by anybody", repaired=repair)
    if run.state != "running" or (detail := _stranded(tables, instance, run)) is None:
        return
    if repair:
        tables.make_ready(run, now_us)
        detail += "; the run was made ready"
    yield _finding(_I7, run, detail, repaired=repair)


def _stranded(tables: Tables, instance: InstanceRow, run: RunRow) -> str | None:
    due_us = run.ready_at_us if run.lease is None else run.lease.until_us
    if tables.ready["", (run.queue, run.workflow, run.version)].due_us(run.key) != due_us:
        return "the run is not where claims look for it"
    if due_us is not None:
        return None
    if instance.unseen(run.seen):
        return "a message has not been seen, but the run is neither ready nor leased"
    if run.wake_at_us is not None:
        return "a timer is set, but the run will not be ready when it is due"
    if run.claims:
        return "the run was claimed, nothing came of it, and nobody has it"
    return None


def _deadline_is_kept(tables: Tables, run: RunRow, repair: bool) -> Iterator[Finding]:
    due_us = tables.overdue.due_us(run.key)
    if run.state not in ("running", "paused") or run.deadline_us == due_us:
        return
    if run.deadline_us is not None and due_us is not None and due_us > run.deadline_us:
        return  # somebody is ending it
    if repair:
        tables.overdue.put(run.key, run.deadline_us)
    if due_us is None:
        yield _finding(_I7, run, "there is a deadline, but nobody would end the run then", repaired=repair)
    else:
        detail = "the run would be ended before its deadline"
        yield _finding("I16 no timer fires early", run, detail, repaired=repair)


def _activities_are_found(tables: Tables, run: RunRow, repair: bool) -> Iterator[Finding]:
    if run.state not in ("running", "paused"):
        return
    for row in run.activities.values():
        shelf = tables.activities[row.new.queue, row.new.name]
        before = (shelf.due_us(row.key), tables.expiring.due_us(row.key))
        tables.place_activity(row)
        if before == (shelf.due_us(row.key), tables.expiring.due_us(row.key)):
            continue
        if not repair:
            shelf.put(row.key, before[0])
            tables.expiring.put(row.key, before[1])
        detail = f"activity {row.ref.number} is not where claims look for it"
        yield _finding(_I7, run, detail, repaired=repair)


def _unread_is_for_somebody(instance: InstanceRow, repair: bool) -> Iterator[Finding]:
    run = instance.current
    for number, unread in list(instance.inbox.items()):
        if not run.is_open or unread.run_id not in (None, run.run_id):
            if repair:
                del instance.inbox[number]
            detail = f"message {number} is for a run that is over, or for nobody"
            yield _finding(_I8, run, detail, repaired=repair)
        elif unread.message.kind not in ANSWER_KINDS and unread.message.key not in instance.keys:
            if repair:
                instance.keys.add(unread.message.key)
            detail = f"the key of message {number} is not remembered"
            yield _finding("I14 each message once", run, detail, repaired=repair)


def _children_are_closed(tables: Tables, now_us: int, repair: bool) -> Iterator[Finding]:
    for key in tables.children:
        run = tables.run(*key)
        if run is None or run.is_open != (key in tables.closings):
            continue  # as it should be, unless the run has ended and has none to close
        if not run.is_open and next(tables.children_to_close(key), None) is None:
            continue
        if repair:
            tables.closings.put(key, None if run.is_open else now_us)
        if run.is_open:
            yield _finding(_I8, run, "the run goes on, but its children are to be closed", repaired=repair)
        else:
            yield _finding(
                _I7, run, "the run has ended, and nobody would close its children", repaired=repair
            )


def _questions_are_asked(tables: Tables, now_us: int, repair: bool) -> Iterator[Finding]:
    for key, row in tables.questions.items():
        run = tables.at(row.question.ref)
        waits = row.reply is None and row.expires_at_us > now_us and run is not None
        asked = key in tables.unanswered
        if run is None or waits == asked or (asked and row.reply is None):  # claims drop what has run out
            continue
        if repair and asked:
            del tables.unanswered[key]
        elif repair:
            tables.unanswered[key] = row
        if asked:
            detail = f"question {key[1]} was answered, and is still asked"
            yield _finding(_I8, run, detail, repaired=repair)
        else:
            yield _finding(_I7, run, f"question {key[1]} waits, and nobody is asked", repaired=repair)


def _outlived(tables: Tables, repair: bool) -> Iterator[Finding]:
    queues = [tables.overdue, tables.closings, *tables.ready.values(), *tables.stalled.values()]
    for queue in queues:
        for key in queue.all_keys():
            # The children of a run that is forgotten are still to be closed; whoever looks for them forgets that, too.
            owed = queue is tables.closings
            if tables.run(*key) is None and not owed:
                if repair:
                    queue.put(key, None)
                yield _orphan(key, "a run that is not there is due", repair)
    for attempts in (tables.expiring, *tables.activities.values()):
        for instance_id, run_id, number in attempts.all_keys():
            run = tables.run(instance_id, run_id)
            if run is None or number not in run.activities:
                if repair:
                    attempts.put((instance_id, run_id, number), None)
                yield _orphan((instance_id, run_id), f"activity {number} is due, but not there", repair)


def _orphan(key: tuple[str, str], detail: str, repaired: bool) -> Finding:
    return Finding(
        rule=_I8,
        instance_id=key[0],
        run_id=key[1],
        detail=detail,
        repairable=True,
        repaired=repaired,
    )


def _finding(rule: str, run: RunRow, detail: str, repaired: bool | None = None) -> Finding:
    return Finding(
        rule=rule,
        instance_id=run.instance_id,
        run_id=run.run_id,
        detail=detail,
        repairable=repaired is not None,
        repaired=bool(repaired),
    )
