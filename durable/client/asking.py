"""Asking instances: queries and updates, and waiting for their answers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import orjson

from durable.backends.records import CLOSED_STATES, InstanceRef, NewMessage, NotFound, Question, Reply, Ticket
from durable.core import messages
from durable.core.failure import Failure, rebuild
from durable.core.ids import new_token
from durable.errors import InstanceFinished, InstanceNotFound

if TYPE_CHECKING:
    from durable.client.client import Client
    from durable.client.instance import Instance

FIRST_POLL_SECONDS = 0.02


class Asking:
    """Queries and updates of one client."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def query(self, ref: InstanceRef, name: str, payload: str, timeout_seconds: float) -> Any:
        """See `Instance.query`."""
        question = Question(
            id=new_token(), ref=ref, name=name, body=payload, timeout_us=round(timeout_seconds * 1e6)
        )
        try:
            async with asyncio.timeout(timeout_seconds):
                asked = await self._client.ask(question)
                if isinstance(asked, NotFound):
                    raise InstanceNotFound(f"instance {ref.instance_id!r} does not exist")
                reply = await self._replied(asked, _never)
        except TimeoutError:
            raise TimeoutError(
                f"query {name!r} of instance {ref.instance_id!r}: no worker that has its code answered within "
                f"{timeout_seconds} s"
            ) from None
        assert reply is not None
        return self._value_of(reply, f"query {name!r}")

    async def update(
        self, instance: Instance[Any], name: str, payload: str, key: str | None, timeout_seconds: float | None
    ) -> Any:
        """See `Instance.update`."""
        key = f"update/{key}" if key is not None else f"update/auto/{new_token()}"
        message = NewMessage(
            instance_id=instance.id, key=key, kind=messages.UPDATE, body=messages.update_body(name, payload)
        )
        ticket = Ticket(id=key, instance_id=instance.id)
        try:
            await self._client.send(message)
        except InstanceFinished:
            early = await self._client.reply(ticket)
            if early is None:  # an answer is there for a key that was sent before
                raise
        try:
            async with asyncio.timeout(timeout_seconds):
                reply = await self._replied(ticket, lambda: self._has_ended(instance))
        except TimeoutError:
            raise TimeoutError(
                f"update {name!r} of instance {instance.id!r} was not answered within {timeout_seconds} s; it goes on"
            ) from None
        if reply is None:
            raise InstanceFinished(f"instance {instance.id!r} ended without answering update {name!r}")
        return self._value_of(reply, f"update {name!r}")

    async def _replied(self, ticket: Ticket, ended: Callable[[], Awaitable[bool]]) -> Reply | None:
        """The reply, once it is there; ``None`` if the instance ended without one."""
        listener = self._client.store.bell.listen("reply", "closed")
        wait = FIRST_POLL_SECONDS
        try:
            while True:
                over = await ended()
                reply = await self._client.reply(ticket)
                if reply is not None or over:
                    return reply
                rang = await listener.wait(wait)
                wait = FIRST_POLL_SECONDS if rang else min(wait * 2, self._client.poll_seconds)
        finally:
            listener.close()

    async def _has_ended(self, instance: Instance[Any]) -> bool:
        view = await self._client.view(InstanceRef(instance_id=instance.id))
        return view.state in CLOSED_STATES and view.next_run_id is None

    def _value_of(self, reply: Reply, what: str) -> Any:
        answer = orjson.loads(reply.body)
        if answer["failure"] is not None:
            raise rebuild(
                Failure.from_text(self._client.converter.unseal(answer["failure"])), self._client.known
            )
        return self._client.converter.decode(answer["result"], Any, f"answer of {what}")


async def _never() -> bool:
    return False
