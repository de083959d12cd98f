"""Questions: queries of instances, answered by any worker that has the code; also of paused, stalled and ended runs."""

from __future__ import annotations

import asyncio
import logging
import random
from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING

from durable.backends.records import AskedTask, Head, HistoryRange, InstanceRef, InstanceView, Reply
from durable.core import messages
from durable.core.context import RunIdentity
from durable.core.events import NewerFormat
from durable.core.failure import failure_of
from durable.core.history import decode_history
from durable.core.replay import Run
from durable.errors import BackendError, DurableError, QueryFailed

if TYPE_CHECKING:
    from durable.worker.parts import Parts

MAX_QUESTIONS = 100
LEASE_US = 200_000
"""A question whose function is not defined yet is asked again after this time."""
MAX_COPIES = 16
_log = logging.getLogger("durable")


class Questions:
    """Claims questions and answers them."""

    def __init__(self, parts: Parts, poll_seconds: float) -> None:
        self._parts = parts
        self._poll = poll_seconds * (4 if "question" in parts.store.bell.covered else 1)
        self._listener = parts.store.bell.listen("question")
        self._copies: OrderedDict[tuple[str, Head], Run] = OrderedDict()

    def close(self) -> None:
        """Listen no more."""
        self._listener.close()
        for run in self._copies.values():
            run.drop()
        self._copies.clear()

    async def run(self) -> None:
        """Until cancelled."""
        parts = self._parts
        claimant = parts.claimant(lease_us=LEASE_US)
        while True:
            try:
                answer = await parts.store.claim_questions(claimant, MAX_QUESTIONS)
                if answer.items:
                    await self._answer(answer.items)
                claimant = parts.claimant(lease_us=LEASE_US)  # a claim that failed is repeated with its token
            except BackendError as error:
                _log.warning("questions could not be claimed: %s", error)
                await asyncio.sleep(random.uniform(0.5, 1.0))
                continue
            wait = self._poll
            if answer.next_wake_us is not None:
                wait = min(wait, max(0.0, (answer.next_wake_us - answer.now_us) / 1e6))
            await self._listener.wait(wait)

    async def _answer(self, asked: Sequence[AskedTask]) -> None:
        loop = asyncio.get_running_loop()
        unknown = [task for task in asked if (task.run_id, task.head) not in self._copies]
        histories, identities = await self._read(unknown) if unknown else ({}, {})
        replies: asyncio.Future[list[Reply]] = loop.create_future()

        def answer() -> None:
            if replies.done():
                return  # the worker was closed meanwhile
            replies.set_result([r for task in asked for r in self._reply(task, histories, identities)])

        loop.call_soon(
            answer
        )  # runs are driven from plain callbacks, never from inside a task of the worker's loop
        answers = await replies
        if answers:
            await self._parts.store.answer(answers)

    async def _read(
        self, tasks: Sequence[AskedTask]
    ) -> tuple[dict[str, tuple[bytes, ...]], dict[str, RunIdentity]]:
        """The histories of the runs that were asked, and who they are."""
        ranges = [HistoryRange(instance_id=task.instance_id, run_id=task.run_id) for task in tasks]
        histories = {piece.run_id: piece.events for piece in await self._parts.reads.read(ranges)}
        refs = [InstanceRef(instance_id=task.instance_id, run_id=task.run_id) for task in tasks]
        views = (await self._parts.store.get(refs)).items
        return histories, {view.run_id: _identity(view) for view in views if view is not None}

    def _reply(
        self, task: AskedTask, histories: dict[str, tuple[bytes, ...]], identities: dict[str, RunIdentity]
    ) -> list[Reply]:
        """The reply, or nothing: the function may still come to be defined, or a newer release wrote the history."""
        try:
            run = self._copy(task, histories, identities)
            result = run.query(task.name, task.body)
            if result is None:
                return []
            body = messages.answer_body(result, None)
        except NewerFormat:
            return []  # a worker of that release has an answer; the question comes again until the asker gives up
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # also one that kept the loop busy for too long
            failed = error if isinstance(error, QueryFailed) else _failed(task, error)
            body = messages.answer_body(None, self._parts.converter.seal(failure_of(failed).to_text()))
        return [Reply(id=task.question_id, instance_id=task.instance_id, body=body)]

    def _copy(
        self, task: AskedTask, histories: dict[str, tuple[bytes, ...]], identities: dict[str, RunIdentity]
    ) -> Run:
        """A run of its own, at the head that was asked about: a query that changes what it should not spoils no run."""
        key = (task.run_id, task.head)
        run = self._copies.get(key)
        if run is None:
            if task.run_id not in identities:
                raise QueryFailed(f"instance {task.instance_id!r} was deleted meanwhile")
            history = decode_history(histories.get(task.run_id, ())[: task.head.number])
            run = self._parts.load(task.workflow, task.version, identities[task.run_id], task.head, history)
            self._keep(key, run)
        return run

    def _keep(self, key: tuple[str, Head], run: Run) -> None:
        self._copies[key] = run
        while len(self._copies) > MAX_COPIES:
            _, oldest = self._copies.popitem(last=False)
            oldest.drop()


def _failed(task: AskedTask, error: BaseException) -> QueryFailed:
    if isinstance(error, DurableError):
        return QueryFailed(str(error))
    return QueryFailed(f"query {task.name!r} raised {type(error).__name__}: {error}")


def _identity(view: InstanceView) -> RunIdentity:
    parent = None if view.parent is None else (view.parent.instance_id, view.parent.run_id)
    return RunIdentity(
        instance_id=view.instance_id, run_id=view.run_id, first_run_id=view.first_run_id, parent=parent
    )
