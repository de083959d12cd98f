"""The client of an environment: a `Client` for which time goes on while it waits, and which looks when all is done."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Collection
from dataclasses import replace
from typing import Any

from durable.backends.records import CLOSED_STATES, InstanceRef, InstanceView, NewInstance, Reply, Ticket
from durable.client.asking import Asking
from durable.client.client import Client
from durable.client.instance import Instance
from durable.client.nearby import Nearby
from durable.client.waiting import Ending, Waiting
from durable.core.hooks import HookList, Propagation
from durable.core.ids import first_token
from durable.core.payload import Converter
from durable.primitives.workflow import Workflow
from durable.testing.skipping import Skipper
from durable.testing.stuck import Stuck
from durable.testing.virtual_time import VirtualClock
from durable.testing.waiters import Waiter

MOST_LOOKS = 200
POLL_SECONDS = 3600.0
"""Nobody polls: every wake-up in one process is heard."""


class VirtualClient(Client):
    """``learn`` is told each workflow that is about to be started; ``seed`` makes the run ids."""

    def __init__(
        self,
        store: Any,
        converter: Converter,
        clock: VirtualClock,
        skipper: Skipper,
        learn: Callable[[Workflow[..., Any]], None],
        seed: object,
        propagation: Propagation,
        hooks: HookList,
    ) -> None:
        super().__init__(store, converter, POLL_SECONDS, propagation, hooks)
        self.clock = clock
        self.waiting = _VirtualWaiting(store, clock, skipper, self.nearby)
        self.questions = _VirtualAsking(self, clock, skipper)
        self._skipper = skipper
        self._learn = learn
        self._seed = seed
        self._started = 0
        self._looks: dict[InstanceRef, tuple[int, int]] = {}

    async def view(self, ref: InstanceRef) -> InstanceView:
        """Raises `Stuck` for who looks again and again, for time does not go on meanwhile."""
        await self._skipper.settle()
        happened, looks = self._looks.get(ref, (-1, 0))
        looks = looks + 1 if happened == self._skipper.happened else 0
        self._looks[ref] = (self._skipper.happened, looks)
        if looks > MOST_LOOKS and not self._skipper.works:
            raise Stuck(
                f"instance {ref.instance_id!r} was looked at {looks} times, and nothing has happened: time goes on for "
                "who awaits an instance or an update, and by env.advance()"
            )
        return await super().view(ref)

    def _new_instance(self, workflow: Workflow[..., Any] | str, *args: Any) -> NewInstance:
        if isinstance(workflow, Workflow):
            self._learn(workflow)
        new = super()._new_instance(workflow, *args)
        run_id = self._next_run_id()
        named = run_id if new.instance_id == new.run_id else new.instance_id
        head = replace(new.head, token=first_token(run_id))
        return replace(new, instance_id=named, run_id=run_id, head=head)

    def _next_run_id(self) -> str:
        """Like a real one, but the same in every run of the test: the random numbers of a run are made of its id."""
        self._started += 1
        milliseconds = self.clock.now_us() // 1000
        random = hashlib.blake2b(f"{self._seed}/{self._started}".encode(), digest_size=10).hexdigest()
        return f"{milliseconds:012x}{random}"


class _VirtualWaiting(Waiting):
    """Waiting for an ending lets time go on."""

    def __init__(self, store: Any, clock: VirtualClock, skipper: Skipper, nearby: Collection[Nearby]) -> None:
        super().__init__(store, POLL_SECONDS, nearby)
        self._clock = clock
        self._skipper = skipper

    async def closed(self, ref: InstanceRef) -> Ending | None:
        waiter = Waiter(ref=ref, what=f"instance {ref.instance_id!r}", since_us=self._clock.now_us())
        return await self._skipper.waiters.wait(waiter, super().closed(ref))


class _VirtualAsking(Asking):
    """Waiting for the answer of an update lets time go on; a query is about this very moment."""

    def __init__(self, client: Client, clock: VirtualClock, skipper: Skipper) -> None:
        super().__init__(client)
        self._clock = clock
        self._skipper = skipper

    async def _has_ended(self, instance: Instance[Any]) -> bool:
        """As ever, but without settling first: time would go on before the answer was looked at."""
        view = await Client.view(self._client, InstanceRef(instance_id=instance.id))
        return view.state in CLOSED_STATES and view.next_run_id is None

    async def _replied(self, ticket: Ticket, ended: Callable[[], Awaitable[bool]]) -> Reply | None:
        is_update = ticket.id.startswith("update/")
        waiter = Waiter(
            ref=InstanceRef(instance_id=ticket.instance_id),
            what=f"{'an update' if is_update else 'a query'} of instance {ticket.instance_id!r}",
            since_us=self._clock.now_us(),
            skips=is_update,
        )
        return await self._skipper.waiters.wait(waiter, super()._replied(ticket, ended))
