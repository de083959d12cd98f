"""A program whose modules took clocks along by name before anything of `durable` was imported.

Prints what they give in a run and outside of one. Run by `test_rebinding`, in a process of its own.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from datetime import date, datetime
from functools import partial
from os import urandom
from random import choice, random
from time import monotonic, sleep, time
from time import time as renamed
from uuid import uuid1, uuid4

now = datetime.now
today = date.today


@dataclass
class Order:
    placed: datetime = field(default_factory=datetime.now)
    seconds: float = field(default_factory=time)


class Clock:
    read = time
    read_statically = staticmethod(time)
    made = uuid1


def by_default(clock=time, *, other=renamed):  # type: ignore[no-untyped-def]
    return [clock(), other()]


def _closed_over():  # type: ignore[no-untyped-def]
    clock = time
    return lambda: clock()


closed_over = _closed_over()
in_a_list = [time]
in_a_dict = {"clock": time}
in_a_partial = partial(time)
in_a_tuple = (time,)
in_a_list_in_a_list = [[time]]


class Service:
    def __init__(self, clock):  # type: ignore[no-untyped-def]
        self.clock = clock


service = Service(time)


def look() -> dict[str, object]:
    order = Order()
    return {
        "time": time(),
        "renamed": renamed(),
        "now": now().isoformat(),
        "today": today().isoformat(),
        "field": [order.placed.isoformat(), order.seconds],
        "class": [Clock.read(), Clock().read(), Clock.read_statically(), Clock().read_statically()],
        "defaults": by_default(),
        "closure": closed_over(),
        "held": [in_a_list[0](), in_a_dict["clock"](), in_a_partial(), service.clock()],
        "monotonic": monotonic(),
        "random": [random(), choice(range(10**9)), urandom(8).hex(), str(uuid4()), str(uuid1())],
    }


def escaped() -> list[float]:
    return [in_a_tuple[0](), in_a_list_in_a_list[0][0]()]


def slept() -> str:
    try:
        sleep(0)
    except Exception as error:
        return type(error).__name__
    return "slept"


if __name__ == "__main__":
    from tests.core.hosts import Host

    def inside(work):  # type: ignore[no-untyped-def]
        host = Host("run")

        async def main():  # type: ignore[no-untyped-def]
            return work()

        result = host.start(main()).result()
        host.loop.drop()
        return result

    print(  # noqa: T201
        json.dumps(
            {
                "in": inside(look),
                "again": inside(look),
                "out": look(),
                "escaped": inside(escaped),
                "slept": inside(slept),
                "slept outside": slept(),
                "real": sys.modules["time"].time(),
            }
        )
    )
