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
"""

from __future__ import annotations

from collections.abc import Iterator

from durable.backends.memory.rows import InstanceRow, RunRow
from durable.backends.memory.tables import Tables
from durable.backends.records import Finding


def audit(tables: Tables, now_us: int, *, repair: bool) -> Iterator[Finding]:
    """What is broken; with ``repair``, what can be mended is."""
    for instance in list(tables.instances.values()):
        yield from _one_unfinished(instance)
        for run in instance.runs.values():
            yield from _gap_free(run)
            yield from _one_end(run)
            yield from _after_the_end(tables, run, repair)
        yield from _nothing_waits_on_nothing(tables, instance, now_us, repair)
    yield from _outlived(tables, repair)


def _gap_free(run: RunRow) -> Iterator[Finding]:
    if run.head.number != len(run.events) or not run.events:
        detail = f"the head has number {run.head.number}, the history {len(run.events)} events"
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
    if run.state != "running" or (detail := _stranded(tables, instance, run)) is None:
        return
    if repair:
        tables.make_ready(run, now_us)
    yield _finding("I7 nothing waits on nothing", run, detail, repaired=repair)


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


def _outlived(tables: Tables, repair: bool) -> Iterator[Finding]:
    queues = [tables.overdue, tables.closings, *tables.ready.values(), *tables.stalled.values()]
    for queue in queues:
        for key in queue.all_keys():
            owed = queue is tables.closings and key in tables.children
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
        rule="I8 nothing outlives its cause",
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
