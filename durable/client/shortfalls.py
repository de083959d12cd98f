"""What a run waits for, compared with what the store holds of it: what is missing, in words, and how it is put back.

Pure: it reads and writes nothing. `durable.client.audit` finds the runs, judges twice, and mends.

What a run waits for can be answered as long as the store holds what answers it: an activity's row or its result, a
child or the message of its end, the outcome of a message, a wake-up time. The store changes the one into the other in
one step, together with the head; so what is missing twice under one head is lost.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from durable.backends.records import (
    OPEN_STATES,
    Checkpoint,
    Head,
    Holdings,
    InstanceView,
    NewActivity,
    NewMessage,
    Send,
)
from durable.core import messages
from durable.core.definition import ActivityOptions
from durable.core.events import ActivityScheduled, CancelSent, ChildScheduled, SignalSent
from durable.core.failure import failure_of
from durable.core.ids import first_token, new_token
from durable.core.payload import Converter
from durable.core.unanswered import Unanswered
from durable.errors import WorkerLost

I3 = "I3 one end"
I6 = "I6 one answer"
I7 = "I7 nothing waits on nothing"
I8 = "I8 nothing outlives its cause"
_NOTHING = "nothing can be made up"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mending:
    """What puts something back: parts of a checkpoint without events, and messages for the run itself.

    ``wakes``: the checkpoint's wake-up time, which it sets in any case, is what was missing.
    """

    activities: tuple[NewActivity, ...] = ()
    withdrawn: tuple[int, ...] = ()
    sends: tuple[Send, ...] = ()
    wakes: bool = False
    messages: tuple[NewMessage, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Shortfall:
    """Something that is missing, or too much. ``about`` tells it from the run's others, each time it is judged.

    ``mending`` of ``None``: nothing can be made up. ``remedy`` says what mending does, or what people can do.
    """

    rule: str
    about: tuple[str, int]
    missing: str
    remedy: str
    mending: Mending | None = None


Family = Mapping[int, InstanceView]
"""What became of a run's children, by command: the last run of each that there is."""


def waits_idle(held: Holdings, now_us: int) -> bool:
    """Whether nobody has the run and nobody would be handed it now: only then is it certain that it waits.

    Stalled runs are left alone: their code could not go on, so nobody knows what they wait for.
    """
    if held.state == "paused":
        return held.lease_until_us is None or held.lease_until_us <= now_us
    unclaimed = held.ready_at_us is None or held.ready_at_us > now_us
    return held.state == "running" and held.lease_until_us is None and unclaimed


def shortfalls(
    held: Holdings, waits: Unanswered, family: Family, converter: Converter
) -> Iterator[Shortfall]:
    """What is missing of a run that waits idle, and what is too much."""
    if waits.ending is not None:
        missing = f"its history ends with {waits.ending.kind}, but it is {held.state}"
        yield Shortfall(rule=I3, about=("end", 0), missing=missing, remedy=_NOTHING)
        return
    if waits.twice:
        number = waits.twice[0]
        missing = f"its history answers what was not asked, or was answered before (command {number})"
        yield Shortfall(rule=I6, about=("twice", number), missing=missing, remedy=_NOTHING)
    yield from _Comparison(held, waits, family, converter).shortfalls()


def checkpoint_of(held: Holdings, waits: Unanswered, mendings: Collection[Mending]) -> Checkpoint | None:
    """One checkpoint for all mendings of a run, without events and on top of its head; ``None``: none is needed.

    Whoever holds the old head has lost with it, and reads the run anew.
    """
    activities = tuple(new for mending in mendings for new in mending.activities)
    withdrawn = tuple(number for mending in mendings for number in mending.withdrawn)
    sends = tuple(send for mending in mendings for send in mending.sends)
    if not (activities or withdrawn or sends or any(mending.wakes for mending in mendings)):
        return None
    return Checkpoint(
        instance_id=held.instance_id,
        run_id=held.run_id,
        head=held.head,
        new_head=Head(number=held.head.number, token=new_token()),
        events=(),
        seen=held.seen,
        activities=activities,
        withdrawn=withdrawn,
        sends=sends,
        wake_at_us=waits.wake_at_us,
    )


class _Comparison:
    """One run: what it waits for against what is held of it, one kind of loss a method."""

    def __init__(self, held: Holdings, waits: Unanswered, family: Family, converter: Converter) -> None:
        self._held = held
        self._waits = waits
        self._family = family
        self._converter = converter
        self._come = {key for answer in held.answers for key in _answered_by(answer)}
        self._run_id = held.run_id

    def shortfalls(self) -> Iterator[Shortfall]:
        if self._held.head.token == first_token(self._run_id):
            yield from self._not_begun()
            return  # a checkpoint would make it a run that has begun, whose last input nobody applies any more
        yield from self._timers()
        yield from self._activities()
        yield from self._too_much()
        yield from self._sends()
        yield from self._starts()
        yield from self._ends()

    def _not_begun(self) -> Iterator[Shortfall]:
        held = self._held
        begun = held.head.token != first_token(held.run_id)
        if (
            begun or held.ready_at_us is not None or held.state != "running"
        ):  # a paused one begins when resumed
            return
        nudge = self._message(f"begin/{held.run_id}", messages.OUTCOME, "0 delivered")
        yield Shortfall(
            rule=I7,
            about=("begin", 0),
            missing="it has never begun, and no worker would be handed it",
            remedy="it is made ready",
            mending=Mending(messages=(nudge,)),
        )

    def _timers(self) -> Iterator[Shortfall]:
        held, due_us = self._held, self._waits.wake_at_us
        if due_us is None or held.state != "running":  # a paused one looks at its timers when it is resumed
            return
        if any(wake is not None and wake <= due_us for wake in (held.wake_at_us, held.ready_at_us)):
            return
        number = min(self._waits.timers.values(), key=lambda timer: timer.due_us).number
        yield Shortfall(
            rule=I7,
            about=("timer", number),
            missing=f"it waits for a timer (command {number}), but nothing would wake it then",
            remedy="its wake-up time is set anew",
            mending=Mending(wakes=True),
        )

    def _activities(self) -> Iterator[Shortfall]:
        there = set(self._held.activities)
        for number, asked in self._waits.activities.items():
            key = f"activity/{self._run_id}/{number}"
            if number not in there and key not in self._come:
                remedy, mending = self._remedy_of(asked, key)
                yield Shortfall(
                    rule=I7,
                    about=("activity", number),
                    missing=f"it waits for activity {asked.name!r} (command {number}), but there is neither its task "
                    "nor a result",
                    remedy=remedy,
                    mending=mending,
                )

    def _remedy_of(self, asked: ActivityScheduled, key: str) -> tuple[str, Mending | None]:
        try:
            options = ActivityOptions.from_text(asked.options)
        except (ValueError, TypeError):
            return f"{_NOTHING}: its options cannot be read", None
        if not options.at_most_once:
            again = Mending(activities=(_again(asked, options),))
            return "it is scheduled again, and may so run a second time", again
        error = WorkerLost(
            f"activity {asked.name!r} ({asked.number}) of instance {self._held.instance_id!r}: its task was lost, "
            "and at_most_once forbids another start"
        )
        body = messages.failed_body(asked.number, self._converter.seal(failure_of(error).to_text()))
        told = self._message(key, messages.ACTIVITY_FAILED, body)
        return "it fails with WorkerLost, for it must not run twice", Mending(messages=(told,))

    def _too_much(self) -> Iterator[Shortfall]:
        for number in self._held.activities:
            if number not in self._waits.activities:
                yield Shortfall(
                    rule=I8,
                    about=("task", number),
                    missing=f"there is the task of an activity (command {number}) that it does not wait for",
                    remedy="the task is removed",
                    mending=Mending(withdrawn=(number,)),
                )

    def _sends(self) -> Iterator[Shortfall]:
        for number, sent in self._waits.sends.items():
            if self._outcome(number) not in self._come:
                yield Shortfall(
                    rule=I7,
                    about=("outcome", number),
                    missing=f"it waits to hear whether its message to {sent.instance_id!r} (command {number}) arrived",
                    remedy="the message is sent again, under its key: what had arrived is not taken twice",
                    mending=Mending(sends=(_resent(self._run_id, sent),)),
                )

    def _starts(self) -> Iterator[Shortfall]:
        for number, asked in self._waits.unstarted.items():
            key = self._outcome(number)
            if number in self._family and key not in self._come:
                told = self._message(key, messages.OUTCOME, f"{number} started")
                yield Shortfall(
                    rule=I7,
                    about=("start", number),
                    missing=f"it waits to hear that its child {asked.instance_id!r} (command {number}) exists",
                    remedy="it is told so",
                    mending=Mending(messages=(told,)),
                )

    def _ends(self) -> Iterator[Shortfall]:
        for number, asked in self._waits.children.items():
            child = self._family.get(number)
            if child is None:
                yield from self._gone(number, asked)
            elif child.state not in OPEN_STATES and f"closed/{child.run_id}" not in self._come:
                yield self._untold(number, child)

    def _gone(self, number: int, asked: ChildScheduled) -> Iterator[Shortfall]:
        known = {f"closed/{child.run_id}" for child in self._family.values()}
        if any(answer.startswith("closed/") for answer in self._come - known):
            return  # word has come of the end of a child that is forgotten by now; it may be this one
        if self._outcome(number) in self._come:
            return  # it may be that it was never made, for its id was taken
        yield Shortfall(
            rule=I7,
            about=("child", number),
            missing=f"it waits for its child {asked.instance_id!r} (command {number}), but there is neither the child "
            "nor word of its end",
            remedy=f"{_NOTHING}: cancel or terminate it, or bring the child back from a backup",
        )

    def _untold(self, number: int, child: InstanceView) -> Shortfall:
        body = messages.child_closed_body(number, child.state, child.result, child.failure)
        told = self._message(f"closed/{child.run_id}", messages.CHILD_CLOSED, body)
        return Shortfall(
            rule=I7,
            about=("child", number),
            missing=f"its child {child.instance_id!r} (command {number}) is {child.state}, and it was never told so",
            remedy="it is told so",
            mending=Mending(messages=(told,)),
        )

    def _outcome(self, number: int) -> str:
        return f"outcome/{self._run_id}/{number}"

    def _message(self, key: str, kind: str, body: str) -> NewMessage:
        """An answer told again. Its key is new each time, for what was lost once may be lost twice."""
        ids = {"instance_id": self._held.instance_id, "run_id": self._run_id}
        return NewMessage(**ids, key=f"{key}/{new_token()}", kind=kind, body=body)


def _answered_by(answer: str) -> tuple[str, ...]:
    """What a message of this key answers: under a key of the store's, one with a token behind it (told again), or a
    fork's, which does not say whether it is about an activity or a message.
    """
    kind, _, rest = answer.partition("/")
    parts = rest.split("/")
    if kind == "fork":
        return (f"activity/{rest}", f"outcome/{rest}")
    return (f"{kind}/{'/'.join(parts[: 1 if kind == 'closed' else 2])}",)


def _again(asked: ActivityScheduled, options: ActivityOptions) -> NewActivity:
    limit = options.queue_timeout_seconds
    return NewActivity(
        number=asked.number,
        name=asked.name,
        queue=asked.queue,
        payload=asked.args,
        options=asked.options,
        queue_timeout_us=None if limit is None else round(limit * 1e6),
    )


def _resent(run_id: str, sent: SignalSent | CancelSent) -> Send:
    if isinstance(sent, SignalSent):
        kind, body = messages.SIGNAL, messages.signal_body(sent.name, sent.payload)
    else:
        kind, body = messages.CANCEL, messages.cancel_body(sent.reason)
    message = NewMessage(instance_id=sent.instance_id, key=f"{run_id}/{sent.number}", kind=kind, body=body)
    return Send(message=message, number=sent.number)
