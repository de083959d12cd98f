"""Each kind of damage that is done to the file by hand is found by name, mended if it can be, and the run goes on."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from durable.backends.contract import Backend
from durable.backends.records import Close, InstanceRef, Parent, Question, Reply
from durable.backends.sqlite import open_store
from durable.testing.conformance import ManualClock, StoreUnderTest
from durable.testing.conformance.bench import Bench
from durable.testing.conformance.clock import HOUR, SECOND
from durable.testing.conformance.specimens import activity, continued, done, message

A = InstanceRef(instance_id="a")


class File(StoreUnderTest):
    keeps_data = True

    def __init__(self, folder: Path) -> None:
        self.clock = ManualClock()
        self.path = folder / "x.db"

    async def open(self) -> Backend:
        return await open_store(f"sqlite:///{self.path}", clock=self.clock)

    async def damage(self, store: Backend, kind: str, instance_id: str) -> None:
        with closing(sqlite3.connect(self.path)) as connection, connection:
            assert connection.execute(kind).rowcount == 1, "the damage must hit one row"


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    file = File(tmp_path)
    bench = Bench(await file.open(), file)
    yield bench
    await bench.store.close()


# --- what is healthy before the damage ---------------------------------------------------------------------------


async def unread(bench: Bench) -> None:
    await bench.waiting("a")
    await bench.send(message("a", "k"))


async def timer(bench: Bench) -> None:
    await bench.waiting("a", wake_at_us=await bench.now() + SECOND)


async def fresh_run(bench: Bench) -> None:
    await bench.start("a")


async def leased(bench: Bench) -> None:
    await bench.start("a")
    await bench.claim_one("a", "w9")


async def deadline(bench: Bench) -> None:
    await bench.waiting("b")
    await bench.start("a", timeout_us=HOUR)


async def charging(bench: Bench) -> None:
    await bench.scheduled("a")


async def limited(bench: Bench) -> None:
    await bench.waiting("a", activities=(activity(1, queue_timeout_us=SECOND),))


async def over(bench: Bench) -> None:
    await bench.commit(done(await bench.start("a")))


async def two_steps(bench: Bench) -> None:
    await bench.waiting("a")
    await bench.start("b")


async def second_life(bench: Bench) -> None:
    await bench.commit(continued(await bench.start("a", "r1"), "r2"))


async def family(bench: Bench) -> None:
    await bench.start("a", "a-1")
    parent = Parent(instance_id="a", run_id="a-1", number=1, close="terminate")
    await bench.start("kid", parent=parent)


async def orphaned(bench: Bench) -> None:
    await family(bench)
    tasks = {task.instance_id: task for task in await bench.claim()}
    await bench.commit(done(tasks["a"], close=Close(state="completed", result="1")))


async def answered(bench: Bench) -> None:
    await asked(bench)
    await bench.store.claim_questions(bench.claimant(), 1)
    await bench.store.answer([Reply(id="q", instance_id="a", body="1")])


async def asked(bench: Bench) -> None:
    await bench.waiting("a")
    await bench.store.ask([Question(id="q", ref=A, name="state", body="[]", timeout_us=SECOND)])


# --- what must go on after the repair ----------------------------------------------------------------------------


async def is_claimable(bench: Bench) -> None:
    assert [task.instance_id for task in await bench.claim()] == ["a"]


async def has_its_message(bench: Bench) -> None:
    (task,) = await bench.claim()
    assert [one.key for one in task.messages] == ["k"]


async def wakes_in_time(bench: Bench) -> None:
    assert await bench.claim() == []
    await bench.advance(SECOND)
    await is_claimable(bench)


async def takes_a_resend_once(bench: Bench) -> None:
    await bench.send(message("a", "k"))
    await has_its_message(bench)


async def takes_another_message(bench: Bench) -> None:
    await bench.send(message("a", "k2"))
    (task,) = await bench.claim()
    assert [one.key for one in task.messages] == ["k", "k2"]


async def has_its_activity(bench: Bench) -> None:
    assert (await bench.claim_activity()).ref.instance_id == "a"


async def expires(bench: Bench) -> None:
    await bench.advance(SECOND)
    assert (await bench.claim_activity()).expired


async def is_overdue_in_time(bench: Bench) -> None:
    await bench.advance(HOUR - SECOND)
    assert await bench.claim_overdue() == []
    await bench.advance(SECOND)
    assert [one.instance_id for one in await bench.claim_overdue()] == ["a"]


async def has_ended(bench: Bench) -> None:
    assert (await bench.view("a")).state == "completed"
    assert await bench.claim() == await bench.claim_activities() == []


async def is_tried_again(bench: Bench) -> None:
    tasks = (await bench.store.claim_stalled_tasks(bench.claimant(), 5, at_start=False)).items
    assert [task.instance_id for task in tasks] == ["a"]


async def is_parked_alone(bench: Bench) -> None:
    assert (await bench.view("a")).state == "stalled"
    assert [task.instance_id for task in await bench.claim()] == ["b"], "the others go on"


async def closes_its_children(bench: Bench) -> None:
    (closing_,) = await bench.claim_closings()
    assert [child.instance_id for child in closing_.children] == ["kid"]


async def ends_with_its_children(bench: Bench) -> None:
    tasks = {task.instance_id: task for task in await bench.claim()}
    await bench.commit(done(tasks["a"]))
    await closes_its_children(bench)


async def leaves_its_children_alone(bench: Bench) -> None:
    tasks = (await bench.claim_answer()).items
    assert sorted((type(task).__name__, task.instance_id) for task in tasks) == [
        ("WorkflowTask", "a"),
        ("WorkflowTask", "kid"),
    ]


async def is_asked_once(bench: Bench) -> None:
    assert len((await bench.store.claim_questions(bench.claimant(), 5)).items) == 1


async def is_asked_no_more(bench: Bench) -> None:
    assert (await bench.store.claim_questions(bench.claimant(), 5)).items == []


# --- the kinds ----------------------------------------------------------------------------------------------------

Step = Callable[[Bench], Awaitable[None]]
ON_A = "WHERE instance_id = 'a'"
TASK = (
    "INSERT INTO activities SELECT 0, '{run}', 1, '{name}', 'Order', 'charge', 'default', '[]', '{{}}', 1, 1, 1, 0, "
    "NULL, NULL, NULL, NULL, NULL, 0, 0, 0, 1, NULL"
)
KEPT_TASK = TASK.replace("SELECT 0", "SELECT part") + " FROM instances WHERE instance_id = 'a'"
MESSAGE = "INSERT INTO inbox SELECT part, '{name}', 9, '{run}', 'x', 'outcome', '', 1 FROM instances " + ON_A


@dataclass(frozen=True, kw_only=True)
class Kind:
    name: str
    before: Step
    damage: str
    rule: str
    after: Step
    instance_id: str = "a"
    mended: bool = True


KINDS = (
    Kind(
        name="readiness cleared though a message is unread",
        before=unread,
        damage=f"UPDATE instances SET ready_at_us = NULL, claimable_at_us = NULL {ON_A}",
        rule="I7",
        after=has_its_message,
    ),
    Kind(
        name="readiness cleared though a timer is stored",
        before=timer,
        damage=f"UPDATE instances SET ready_at_us = NULL, claimable_at_us = NULL {ON_A}",
        rule="I7",
        after=wakes_in_time,
    ),
    Kind(
        name="claim column cleared of a ready run",
        before=fresh_run,
        damage=f"UPDATE instances SET claimable_at_us = NULL {ON_A}",
        rule="I7",
        after=is_claimable,
    ),
    Kind(
        name="lease removed of a claimed run",
        before=leased,
        damage=f"UPDATE instances SET lease_owner = NULL, lease_until_us = NULL, claimable_at_us = NULL {ON_A}",
        rule="I7",
        after=is_claimable,
    ),
    Kind(
        name="lease without an end",
        before=leased,
        damage=f"UPDATE instances SET lease_until_us = NULL, claimable_at_us = NULL {ON_A}",
        rule="I7",
        after=is_claimable,
    ),
    Kind(
        name="retry time cleared of a stalled run",
        before=fresh_run,
        damage=f"UPDATE instances SET state = 'stalled', claimable_at_us = NULL, retry_at_us = 1 {ON_A}",
        rule="I7",
        after=is_tried_again,
    ),
    Kind(
        name="deadline forgotten by the index",
        before=deadline,
        damage=f"UPDATE instances SET overdue_at_us = NULL {ON_A}",
        rule="I7",
        after=is_overdue_in_time,
    ),
    Kind(
        name="deadline too early in the index",
        before=deadline,
        damage=f"UPDATE instances SET overdue_at_us = 1 {ON_A}",
        rule="I16",
        after=is_overdue_in_time,
    ),
    Kind(
        name="activity that nobody can claim",
        before=charging,
        damage=f"UPDATE activities SET claimable_at_us = NULL {ON_A}",
        rule="I7",
        after=has_its_activity,
    ),
    Kind(
        name="activity held though its run is not paused",
        before=charging,
        damage=f"UPDATE activities SET claimable_at_us = NULL, held = 1 {ON_A}",
        rule="I7",
        after=has_its_activity,
    ),
    Kind(
        name="activity that does not expire",
        before=limited,
        damage=f"UPDATE activities SET expirable_at_us = NULL {ON_A}",
        rule="I7",
        after=expires,
    ),
    Kind(
        name="activity of a finished run",
        before=over,
        damage=KEPT_TASK.format(run="a-1", name="a"),
        rule="I4",
        after=has_ended,
    ),
    Kind(
        name="activity of no run",
        before=fresh_run,
        damage=TASK.format(run="no-run", name="nobody"),
        rule="I8",
        after=is_claimable,
        instance_id="nobody",
    ),
    Kind(
        name="message for a run that is over",
        before=second_life,
        damage=MESSAGE.format(name="a", run="r1").replace("9,", "0,"),
        rule="I8",
        after=is_claimable,
    ),
    Kind(
        name="message for nobody",
        before=fresh_run,
        damage=MESSAGE.format(name="nobody", run="r"),
        rule="I8",
        after=is_claimable,
        instance_id="nobody",
    ),
    Kind(
        name="count of messages set back",
        before=unread,
        damage=f"UPDATE instances SET sent = 0 {ON_A}",
        rule="I14",
        after=takes_another_message,
    ),
    Kind(
        name="key of an unread message forgotten",
        before=unread,
        damage=f"DELETE FROM message_keys {ON_A}",
        rule="I14",
        after=takes_a_resend_once,
    ),
    Kind(
        name="key of nobody",
        before=fresh_run,
        damage="INSERT INTO message_keys VALUES (0, 'nobody', 'k')",
        rule="I8",
        after=is_claimable,
        instance_id="nobody",
    ),
    Kind(
        name="history row missing",
        before=two_steps,
        damage=f"DELETE FROM history {ON_A} AND first_number = 1",
        rule="I2",
        after=is_parked_alone,
        mended=False,
    ),
    Kind(
        name="head ahead of the history",
        before=two_steps,
        damage=f"UPDATE instances SET head_number = head_number + 1 {ON_A}",
        rule="I2",
        after=is_parked_alone,
        mended=False,
    ),
    Kind(
        name="end without a time",
        before=over,
        damage=f"UPDATE instances SET closed_at_us = NULL {ON_A}",
        rule="I3",
        after=has_ended,
        mended=False,
    ),
    Kind(
        name="lease and times of a finished run",
        before=over,
        damage=f"UPDATE instances SET lease_owner = 'w', ready_at_us = 1, claimable_at_us = 1 {ON_A}",
        rule="I4",
        after=has_ended,
    ),
    Kind(
        name="earlier run open",
        before=second_life,
        damage="UPDATE past_runs SET state = 'running'",
        rule="I5",
        after=is_claimable,
    ),
    Kind(
        name="closing of an ended parent missing",
        before=orphaned,
        damage=f"DELETE FROM closings {ON_A}",
        rule="I7",
        after=closes_its_children,
    ),
    Kind(
        name="closing of a parent that goes on",
        before=family,
        damage=f"INSERT INTO closings SELECT part, run_id, instance_id, 1 FROM instances {ON_A}",
        rule="I8",
        after=leaves_its_children_alone,
    ),
    Kind(
        name="child not counted by its parent",
        before=family,
        damage=f"UPDATE instances SET children = 0 {ON_A}",
        rule="I7",
        after=ends_with_its_children,
    ),
    Kind(
        name="answered question still asked",
        before=answered,
        damage="UPDATE questions SET claimable_at_us = 1",
        rule="I8",
        after=is_asked_no_more,
    ),
    Kind(
        name="question that nobody is asked",
        before=asked,
        damage="UPDATE questions SET claimable_at_us = NULL",
        rule="I7",
        after=is_asked_once,
    ),
)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name.replace(" ", "_"))
async def test_damage_is_found_and_mended(bench: Bench, kind: Kind) -> None:
    await kind.before(bench)
    assert (await bench.store.audit()).items == [], "healthy before"
    await bench.damage(kind.damage, kind.instance_id)
    for repair in (False, True):
        (found,) = (await bench.store.audit(repair=repair)).items
        assert (found.rule.split()[0], found.instance_id) == (kind.rule, kind.instance_id)
        assert (found.repairable, found.repaired) == (kind.mended, kind.mended and repair)
        assert ("; " in found.detail) == (repair and kind.rule != "I3"), "the detail says what was done"
    assert ((await bench.store.audit()).items == []) == kind.mended
    await kind.after(bench)


def test_there_are_enough_kinds() -> None:
    assert len(KINDS) >= 14 and sum(kind.mended for kind in KINDS) >= 12


async def test_a_run_whose_row_was_removed_by_hand_keeps_its_history_and_messages(bench: Bench) -> None:
    """The rest may serve to bring it back: a repair must not finish what the hand has begun."""
    await bench.waiting("b")
    await bench.waiting("a", activities=(activity(1),))
    await bench.send(message("a", "k"))
    before = await rows_of(bench, "a")
    await bench.damage(f"DELETE FROM instances {ON_A}", "a")
    for repair in (False, True, False):
        found = [one for one in (await bench.store.audit(repair=repair)).items if not one.repaired]
        assert ("there is no such run, but 2 events of it" in found[-1].detail, found[-1].repairable) == (
            True,
            False,
        )
    assert await rows_of(bench, "a") == before
    assert (await bench.view("b")).state == "running"


async def rows_of(bench: Bench, instance_id: str) -> list[list[tuple[object, ...]]]:
    file = bench.under_test
    assert isinstance(file, File)
    tables = ("history", "inbox", "message_keys")
    with closing(sqlite3.connect(file.path)) as db:
        return [
            db.execute(f"SELECT * FROM {table} WHERE instance_id = ?", [instance_id]).fetchall()
            for table in tables
        ]
