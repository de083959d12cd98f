"""The rules by which random operations are made up, and what is remembered from one to the next.

Heads, tokens and messages of earlier answers are used again later, when they may be old.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any, TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
)

from durable.backends.records import (
    Absorbed,
    Accepted,
    ActivityParked,
    ActivityRetry,
    ActivityTask,
    Checkpoint,
    Close,
    Closing,
    Created,
    Definition,
    Filter,
    HistoryRange,
    InstanceRef,
    Message,
    MoreMessages,
    NewInstance,
    NewMessage,
    OutboxEvent,
    Parent,
    Pause,
    Paused,
    Problem,
    Purge,
    Question,
    Reply,
    Resume,
    Stall,
    Ticket,
    WorkflowTask,
)
from durable.testing.conformance.clock import SECOND
from durable.testing.conformance.harness import StoreUnderTest
from durable.testing.conformance.lockstep import LockStep
from durable.testing.conformance.recipes import Recipe, coin, few, ids, keys, recent, recipes, spans, workers
from durable.testing.conformance.specimens import (
    Position,
    activity,
    activity_lease,
    child,
    ended,
    finished,
    fresh,
    head_of,
    held,
    message,
    new,
    signal,
    step,
    workflow_lease,
)

T = TypeVar("T")


class StoreMachine(RuleBasedStateMachine):
    """Asks the memory store and the store that is judged the same, a microsecond after the last call."""

    def __init__(self, under_test: StoreUnderTest) -> None:
        super().__init__()
        self.clock = under_test.needs_clock()
        self.lease_us = under_test.lease_us
        self.runner = asyncio.Runner()
        self.pair = self.run(LockStep.open(under_test))
        self.numbers = itertools.count(100)
        self.positions: list[Position] = []
        self.instances: list[NewInstance] = []
        self.tasks: list[tuple[WorkflowTask, str]] = []
        self.messages: dict[str, tuple[Message, ...]] = {}
        self.seen: dict[str, int] = {}
        self.attempts: list[ActivityTask] = []
        self.closings: list[Closing] = []
        self.tickets: list[Ticket] = []

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)

    def call(self, name: str, *args: Any) -> Any:
        """Ask both stores, a microsecond after the last call."""
        self.clock.advance(1)
        return self.run(self.pair.call(name, *args))

    def teardown(self) -> None:
        try:
            self.run(self.pair.compare_all())
        finally:
            self.run(self.pair.close())
            self.runner.close()

    # --- clients

    @initialize()
    def begin(self) -> None:
        self.create([("a", "fail", None, False), ("b", "fail", None, True)])

    @rule(
        asked=st.lists(
            st.tuples(
                ids, st.sampled_from(["fail", "use", "replace"]), st.sampled_from([None, SECOND]), coin
            ),
            min_size=1,
            max_size=2,
        )
    )
    def create(self, asked: list[tuple[str, str, int | None, bool]]) -> None:
        made = []
        for name, if_exists, delay, with_more in asked:
            one = new(
                name,
                fresh(f"{name}-"),
                if_exists=if_exists,
                replaces=ended(name) if if_exists == "replace" else None,
                start_at_us=None if delay is None else self.clock.now_us + delay,
                timeout_us=15 * SECOND if with_more else None,
                messages=(message(name, "k1"),) if with_more else (),
                tags={"t": if_exists},
                lease=held("w1", self.lease_us) if with_more and if_exists == "use" else None,
            )
            made.append(one)
        self.instances += made
        answers = self.call("create", made).items
        self.positions += [
            one for one, answer in zip(made, answers, strict=True) if isinstance(answer, Created)
        ]

    @rule(
        sent=st.lists(
            st.tuples(st.sampled_from(["a", "b", "c", "nobody"]), keys, coin), min_size=1, max_size=3
        )
    )
    def send(self, sent: list[tuple[str, str, bool]]) -> None:
        self.call("send", [self.new_message(*each) for each in sent])

    def new_message(self, name: str, key: str, to_run: bool) -> NewMessage:
        runs = [at.run_id for at in self.positions if at.instance_id == name]
        return message(name, key, run_id=runs[-1] if runs and to_run else None)

    @rule(
        name=ids, kind=st.sampled_from(["pause", "resume", "resume", "end", "stall"]), at=recent, exact=coin
    )
    def change(self, name: str, kind: str, at: int, exact: bool) -> None:
        position = self.pick(self.positions, at)
        ref = InstanceRef(instance_id=name)
        if exact and position is not None:
            ref = InstanceRef(instance_id=position.instance_id, run_id=position.run_id)
        changes: dict[str, Callable[[], Any]] = {
            "pause": lambda: Pause(ref=ref, reason="why"),
            "resume": lambda: Resume(ref=ref),
            "end": lambda: ended(ref.instance_id, ref.run_id),
            "stall": lambda: self.stall(position or new(name)),
        }
        self.call("change", [changes[kind]()])

    def stall(self, at: Position) -> Stall:
        ref = InstanceRef(instance_id=at.instance_id, run_id=at.run_id)
        problem = Problem(report="why", build="1")
        return Stall(ref=ref, head=head_of(at), problem=problem, retry_after_us=SECOND)

    @rule(name=ids, old=recent, exact=coin, timeout_us=st.sampled_from([SECOND, 100 * SECOND]))
    def ask(self, name: str, old: int, exact: bool, timeout_us: int) -> None:
        position = self.pick(self.positions, old)
        run_id = position.run_id if exact and position is not None and position.instance_id == name else None
        ref = InstanceRef(instance_id=name, run_id=run_id)
        asked = Question(id=fresh("q"), ref=ref, name="n", body="b", timeout_us=timeout_us)
        answer = self.call("ask", [asked])
        self.tickets += [ticket for ticket in answer.items if isinstance(ticket, Ticket)]

    # --- workers

    @rule(worker=workers, both=coin)
    def claim(self, worker: str, both: bool) -> None:
        claimant = self.pair.judged.claimant(
            worker, workflows=(Definition(workflow="Order"),) if both else ()
        )
        for item in self.call("claim_workflow_tasks", claimant, 100).items:
            if isinstance(item, WorkflowTask):
                self.learn(item, worker)
            elif isinstance(item, Closing):
                self.closings.append(item)

    @rule(worker=workers, at_start=coin, build=st.sampled_from(["1", "2"]))
    def claim_stalled(self, worker: str, at_start: bool, build: str) -> None:
        code = (Definition(workflow="Order", build=build),)
        claimant = self.pair.judged.claimant(worker, workflows=code)
        self.clock.advance(1)
        calls = [bench.store.claim_stalled_tasks(claimant, 100, at_start=at_start) for bench in self.benches]
        judged, oracle = [self.run(call) for call in calls]
        assert sorted(judged.items, key=repr) == sorted(oracle.items, key=repr)
        for task in judged.items:
            self.learn(task, worker)

    @property
    def benches(self) -> tuple[Any, Any]:
        return self.pair.judged, self.pair.oracle

    def learn(self, task: WorkflowTask, worker: str) -> None:
        """Remember what a claim gave."""
        self.tasks.append((task, worker))
        self.positions.append(task)
        self.messages[task.run_id] = task.messages
        self.seen[task.run_id] = task.seen

    @rule(worker=workers, wanted=st.lists(recipes, min_size=1, max_size=3))
    def work(self, worker: str, wanted: list[Recipe]) -> None:
        """What a worker does all day: claim, and commit what came of it."""
        self.claim(worker, True)
        self.commit([replace(recipe, at=n, look=True) for n, recipe in enumerate(wanted)])

    @rule(worker=workers, recipe=recipes, kind=st.sampled_from(["finish", "retry", "park"]))
    def work_with_activities(self, worker: str, recipe: Recipe, kind: str) -> None:
        """A step that schedules, and an attempt that ends."""
        self.commit([replace(recipe, at=0, look=True, activities=2, ending=None, fired_in_us=None)])
        self.claim_activities(worker, True)
        self.finish([(0, kind)])

    @rule(recipe=recipes)
    def follow(self, recipe: Recipe) -> None:
        """A worker that has the run warm goes on without claiming."""
        self.commit([replace(recipe, at=0)])

    @rule(wanted=st.lists(recipes, min_size=1, max_size=3))
    def commit(self, wanted: list[Recipe]) -> None:
        checkpoints = [made for recipe in wanted if (made := self.cook(recipe)) is not None]
        verdicts = self.call("commit", checkpoints).items
        for checkpoint, verdict in zip(checkpoints, verdicts, strict=True):
            if isinstance(verdict, MoreMessages):
                self.messages[checkpoint.run_id] = verdict.messages
                self.seen[checkpoint.run_id] = verdict.messages[-1].number
            elif isinstance(verdict, Accepted | Paused):
                self.positions += [start.instance for start in checkpoint.children]
                self.positions.append(checkpoint.next_run or checkpoint)

    def cook(self, recipe: Recipe) -> Checkpoint | None:
        """A checkpoint of the run that the recipe picks."""
        at = self.pick(self.positions, recipe.at)
        if at is None:
            return None
        known = self.messages.get(at.run_id, ())
        mine = [attempt for attempt in self.attempts if attempt.ref.run_id == at.run_id]
        now_us = self.clock.now_us + 1
        kid = self.kid(at, recipe)
        return step(
            at,
            consumed=tuple(m.number for n, m in enumerate(known[:3]) if recipe.consume >> n & 1),
            seen=self.seen.get(at.run_id, 0) if recipe.look else 0,
            activities=tuple(activity(next(self.numbers)) for _ in range(recipe.activities)),
            sends=() if recipe.send_to is None else (signal(next(self.numbers), recipe.send_to, "k2"),),
            children=() if kid is None else (child(next(self.numbers), kid),),
            withdrawn=tuple(attempt.ref.number for attempt in mine[-1:]) if recipe.withdraw else (),
            absorbed=tuple(Absorbed(number=a.ref.number, token=a.token) for a in mine[:1])
            if recipe.absorb
            else (),
            outbox=(OutboxEvent(id=fresh(f"{at.run_id}/"), topic="t", payload="p"),)
            if recipe.publish
            else (),
            replies=(Reply(id=fresh("u"), instance_id=at.instance_id, body="r"),) if recipe.publish else (),
            status=recipe.status,
            vars={} if recipe.status is None else {recipe.status: "1"},
            wake_at_us=None if recipe.wake_in_us is None else now_us + recipe.wake_in_us,
            fired_until_us=None if recipe.fired_in_us is None else now_us + recipe.fired_in_us,
            lease=held("w1", self.lease_us) if recipe.keep and recipe.ending is None else None,
            close=self.close(recipe),
            next_run=new(at.instance_id, fresh(f"{at.instance_id}-"))
            if recipe.ending == "continue"
            else None,
        )

    def kid(self, at: Position, recipe: Recipe) -> NewInstance | None:
        if recipe.child is None:
            return None
        close: Any = recipe.parent_close
        of = Parent(instance_id=at.instance_id, run_id=at.run_id, number=1, close=close)
        return new(recipe.child, fresh(f"{recipe.child}-"), parent=of)

    def close(self, recipe: Recipe) -> Close | None:
        if recipe.ending == "completed":
            return Close(state="completed", result="1", parent_body="completed")
        if recipe.ending == "failed":
            return Close(state="failed", failure="x", parent_body="failed")
        return Close(state="continued_as_new") if recipe.ending == "continue" else None

    @rule(worker=workers, known=coin)
    def claim_activities(self, worker: str, known: bool) -> None:
        claimant = self.pair.judged.claimant(worker, **({} if known else {"activities": ()}))
        self.attempts += self.call("claim_activity_tasks", claimant, 100).items

    @rule(
        wanted=st.lists(st.tuples(recent, st.sampled_from(["finish", "finish", "retry", "park"])), max_size=3)
    )
    def finish(self, wanted: list[tuple[int, str]]) -> None:
        outcomes: list[Any] = []
        for old, kind in wanted:
            task = self.pick(self.attempts, old)
            if task is None:
                continue
            if kind == "finish":
                outcomes.append(finished(task))
            elif kind == "retry":
                outcomes.append(ActivityRetry(ref=task.ref, token=task.token, delay_us=SECOND, failure="f"))
            else:
                outcomes.append(
                    ActivityParked(ref=task.ref, token=task.token, new_token="parked", timeout_us=SECOND)
                )
        self.call("finish_activities", outcomes)

    @rule(task=recent, attempt=recent, release=coin, details=st.sampled_from([None, "half"]))
    def extend_or_release(self, task: int, attempt: int, release: bool, details: str | None) -> None:
        leases: list[Any] = []
        if (run := self.pick(self.tasks, task)) is not None:
            leases.append(workflow_lease(run[0], run[1], self.lease_us))
        if (activity_task := self.pick(self.attempts, attempt)) is not None:
            leases.append(activity_lease(activity_task, self.lease_us, details))
        self.call("release" if release else "extend", leases)

    @precondition(lambda self: self.closings)
    @rule(old=recent, how=st.sampled_from(["end", "ask", "nothing"]))
    def close_children(self, old: int, how: str) -> None:
        closing = self.pick(self.closings, old)
        assert closing is not None
        for kid in closing.children:
            if how == "end":
                self.call("change", [ended(kid.instance_id, kid.run_id)])
            elif how == "ask":
                self.call("send", [message(kid.instance_id, f"close/{closing.run_id}", kind="cancel")])
        self.call("close_done", [closing])

    @rule(worker=workers, answer=coin)
    def answer_questions(self, worker: str, answer: bool) -> None:
        asked = self.call("claim_questions", self.pair.judged.claimant(worker), 100).items
        replies = [Reply(id=q.question_id, instance_id=q.instance_id, body="r") for q in asked]
        if answer:
            self.call("answer", replies)
        self.call("replies", self.tickets[-5:])

    # --- operators

    @rule(name=ids, old=recent, exact=coin)
    def delete(self, name: str, old: int, exact: bool) -> None:
        position = self.pick(self.positions, old)
        run_id = position.run_id if exact and position is not None and position.instance_id == name else None
        self.call("delete", [InstanceRef(instance_id=name, run_id=run_id)])

    @rule(age_us=st.sampled_from([0, 10 * SECOND]))
    def purge(self, age_us: int) -> None:
        self.call("purge", Purge(closed_before_us=self.clock.now_us - age_us))

    @rule(worker=workers, publish=coin)
    def relay(self, worker: str, publish: bool) -> None:
        events = self.call("claim_outbox", self.pair.judged.claimant(worker), 100).items
        if publish:
            self.call("finish_outbox", [event.id for event in events])

    @rule(worker=workers, role=st.sampled_from(["upkeep", "relay"]))
    def hold_role(self, worker: str, role: str) -> None:
        self.call("hold_role", role, worker, SECOND)

    @rule(
        states=st.sampled_from([(), ("running",), ("completed", "failed")]),
        newest=coin,
        limit=st.integers(1, 3),
    )
    def find(self, states: Any, newest: bool, limit: int) -> None:
        self.call("find", Filter(states=states, newest_first=newest, limit=limit))

    @rule(old=recent, after=few)
    def read_history(self, old: int, after: int) -> None:
        if (at := self.pick(self.positions, old)) is not None:
            self.call(
                "read_history", [HistoryRange(instance_id=at.instance_id, run_id=at.run_id, after=after)]
            )

    # --- the world

    @rule(us=spans)
    def time_passes(self, us: int) -> None:
        self.clock.advance(us)

    @rule()
    def repeat_the_last_call(self) -> None:
        name, args = self.pair.last
        self.call(name, *args)

    @rule(old=recent)
    def repeat_a_create(self, old: int) -> None:
        if (instance := self.pick(self.instances, old)) is not None:
            self.call("create", [instance])

    def pick(self, things: list[T], n: int) -> T | None:
        return things[-1 - n % len(things)] if things else None
