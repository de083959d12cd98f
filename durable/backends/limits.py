"""What a store refuses at its door, the same on every store: ids too long, texts that some store cannot keep.

These checks look at one request and at nothing else, so they come before any other judgement and need no
store. They are not the engine's limits (size of a payload, length of a history), which users meet as errors.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from durable.backends.records import (
    CLOSED_STATES,
    MAX_CHECKPOINT_BYTES,
    MAX_ID_BYTES,
    MAX_TAGS,
    Change,
    Checkpoint,
    Close,
    End,
    HeldLease,
    NewActivity,
    NewInstance,
    NewMessage,
    Refused,
    Stall,
)


def refuse_message(message: NewMessage) -> Refused | None:
    """What is wrong with a message, or ``None``."""
    return _first(_of_message(message))


def refuse_instance(new: NewInstance) -> Refused | None:
    """What is wrong with a run that is to be made, or ``None``."""
    return _first(_of_instance(new))


def refuse_checkpoint(checkpoint: Checkpoint) -> Refused | None:
    """What is wrong with a checkpoint, or ``None``."""
    return _first(_of_checkpoint(checkpoint))


def refuse_change(change: Change) -> Refused | None:
    """What is wrong with a change, or ``None``."""
    return _first(_of_change(change))


def checkpoint_bytes(checkpoint: Checkpoint) -> int:
    """The size of a checkpoint as `MAX_CHECKPOINT_BYTES` counts it."""
    news = [start.instance for start in checkpoint.children]
    news += [checkpoint.next_run] if checkpoint.next_run is not None else []
    size = sum(map(len, checkpoint.events)) + sum(map(_size, _payloads(checkpoint, news)))
    return size + sum(len(event) for new in news for event in new.events)


def _first(complaints: Iterable[str]) -> Refused | None:
    for complaint in complaints:
        return Refused(reason=complaint)
    return None


# --- one kind of request each: every complaint, the first of which is told --------------------------------------


def _of_message(message: NewMessage) -> Iterator[str]:
    yield from _of_id("instance id", message.instance_id)
    yield from _of_id("message key", message.key)
    yield from _of_name("message kind", message.kind)
    yield from _of_payload("message body", message.body)
    if message.run_id is not None:
        yield from _of_id("run id", message.run_id)


def _of_instance(new: NewInstance) -> Iterator[str]:
    yield from _of_id("instance id", new.instance_id)
    yield from _of_id("run id", new.run_id)
    yield from _of_id("head token", new.head.token)
    yield from _of_id("workflow name", new.workflow)
    yield from _of_id("queue", new.queue)
    yield from _of_name("version", new.version)
    yield from _of_tags(new.tags)
    yield from _of_lease(new.lease)
    if not new.events or new.head.number != len(new.events):
        yield f"run {_short(new.run_id)} has {len(new.events)} events and a head of number {new.head.number}"
    if new.if_exists == "replace" and new.replaces is None:
        yield f"run {_short(new.run_id)} replaces another, but does not say how that one ends"
    if new.replaces is not None:
        yield from _of_change(new.replaces)
    for message in new.messages:
        yield from _of_message(message)
        if message.instance_id != new.instance_id:
            yield f"a first message of {_short(new.instance_id)} names the instance {_short(message.instance_id)}"
    if new.parent is not None:
        yield from _of_id("parent's instance id", new.parent.instance_id)
        yield from _of_id("parent's run id", new.parent.run_id)


def _of_checkpoint(checkpoint: Checkpoint) -> Iterator[str]:
    yield from _of_id("instance id", checkpoint.instance_id)
    yield from _of_id("run id", checkpoint.run_id)
    yield from _of_id("head token", checkpoint.new_head.token)
    yield from _of_heads(checkpoint)
    yield from _of_name("status", checkpoint.status or "")
    yield from _of_lease(checkpoint.lease)
    for name, value in checkpoint.vars.items():
        yield from _of_id("variable's name", name)
        yield from _of_payload("variable's value", value)
    for activity in checkpoint.activities:
        yield from _of_activity(activity)
    for send in checkpoint.sends:
        yield from _of_message(send.message)
    for child in checkpoint.children:
        yield from _of_instance(child.instance)
    for event in checkpoint.outbox:
        yield from _of_id("outbox event's id", event.id)
        yield from _of_id("topic", event.topic)
        yield from _of_name("outbox event's key", event.key or "")
        yield from _of_payload("outbox event's payload", event.payload)
        yield from _of_pairs("header", event.headers)
    for reply in checkpoint.replies:
        yield from _of_id("update's key", reply.id)
        yield from _of_payload("reply's body", reply.body)
    yield from _of_ending(checkpoint)
    if (size := checkpoint_bytes(checkpoint)) > MAX_CHECKPOINT_BYTES:
        yield f"the checkpoint of {_short(checkpoint.instance_id)} has {size} bytes, more than {MAX_CHECKPOINT_BYTES}"


def _of_heads(checkpoint: Checkpoint) -> Iterator[str]:
    # A head that stays the same would make the checkpoint look like its own repetition: nothing would be written.
    old, new, count = checkpoint.head, checkpoint.new_head, len(checkpoint.events)
    if new.token == old.token:
        yield f"the checkpoint of {_short(checkpoint.instance_id)} does not draw a new head token"
    if new.number != old.number + count:
        yield f"{_short(checkpoint.instance_id)}: {count} events after {old.number} do not end with {new.number}"


def _of_ending(checkpoint: Checkpoint) -> Iterator[str]:
    if checkpoint.close is not None:
        yield from _of_close(checkpoint.close)
    if (new := checkpoint.next_run) is None:
        return
    yield from _of_instance(new)
    if checkpoint.close is None:
        yield f"the checkpoint of {_short(checkpoint.instance_id)} starts a next run but does not end this one"
    if new.instance_id != checkpoint.instance_id or new.run_id == checkpoint.run_id:
        yield f"the next run of {_short(checkpoint.instance_id)} is not another run of the same instance"


def _of_activity(activity: NewActivity) -> Iterator[str]:
    yield from _of_id("activity's name", activity.name)
    yield from _of_id("queue", activity.queue)
    yield from _of_payload("activity's payload", activity.payload)
    yield from _of_payload("activity's options", activity.options)
    yield from _of_lease(activity.lease)


def _of_change(change: Change) -> Iterator[str]:
    yield from _of_id("instance id", change.ref.instance_id)
    if isinstance(change, End):
        yield from _of_id("head token", change.token)
        yield from _of_close(change.close)
    if isinstance(change, Stall):
        yield from _of_payload("problem's report", change.problem.report)
        yield from _of_name("build", change.problem.build)


def _of_close(close: Close) -> Iterator[str]:
    if close.state not in CLOSED_STATES:
        yield f"a run cannot end as {_short(close.state)}"
    for text in (close.result, close.failure, close.parent_body):
        yield from _of_payload("outcome", text or "")


def _of_lease(lease: HeldLease | None) -> Iterator[str]:
    if lease is not None:
        yield from _of_id("worker id", lease.worker_id)
        yield from _of_id("lease token", lease.token)


def _of_tags(tags: Mapping[str, str]) -> Iterator[str]:
    if len(tags) > MAX_TAGS:
        yield f"{len(tags)} tags are more than {MAX_TAGS}"
    yield from _of_pairs("tag", tags)


def _of_pairs(what: str, pairs: Mapping[str, str]) -> Iterator[str]:
    for name, value in pairs.items():
        yield from _of_id(f"{what}'s name", name)
        yield from _of_name(f"{what}'s value", value)


# --- texts ------------------------------------------------------------------------------------------------------


def _of_id(what: str, text: str) -> Iterable[str]:
    if text.isascii() and 0 < len(text) <= MAX_ID_BYTES and "\0" not in text:
        return ()  # nearly all that are ever looked at
    return _wrong_id(what, text)


def _wrong_id(what: str, text: str) -> Iterator[str]:
    if not text:
        yield f"the {what} is empty"
    yield from _of_name(what, text)
    if (size := _size(text)) > MAX_ID_BYTES:
        yield f"the {what} {_short(text)} has {size} bytes, more than {MAX_ID_BYTES}"


def _of_name(what: str, text: str) -> Iterable[str]:
    if "\0" in text:
        return (*_of_payload(what, text), f"the {what} {_short(text)} contains NUL")
    return _of_payload(what, text)


def _of_payload(what: str, text: str) -> Iterable[str]:
    # Lone surrogates have no UTF-8: half of the stores could not write them, and none could read them back.
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            return (f"the {what} {_short(text)} contains a lone surrogate at {error.start}",)
    return ()


def _payloads(checkpoint: Checkpoint, news: Iterable[NewInstance]) -> Iterator[str]:
    yield from checkpoint.vars.values()
    for activity in checkpoint.activities:
        yield from (activity.payload, activity.options)
    yield from (send.message.body for send in checkpoint.sends)
    yield from (event.payload for event in checkpoint.outbox)
    yield from (reply.body for reply in checkpoint.replies)
    yield from (message.body for new in news for message in new.messages)
    if checkpoint.close is not None:
        close = checkpoint.close
        yield from (text for text in (close.result, close.failure, close.parent_body) if text is not None)


def _size(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode(errors="surrogatepass"))


def _short(text: str) -> str:
    return ascii(text) if len(text) <= 60 else f"{text[:60]!a}..."
