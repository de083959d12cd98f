"""W10: W1 by one worker process and by four, on one server. The client is a process of its own.

Three parties share the machine: the client, the workers, the server. What each takes of the CPU is read too, for on a
machine with two cores the second worker has no core left that the first did not use already.
"""

from __future__ import annotations

import os

from benchmarks.crew import Crew, Worked, measure
from benchmarks.probes.reading import Reading
from benchmarks.stores import Store

TITLE = "four worker processes against one"
STORES = ("postgres", "mysql")
MANY = 4
SECONDS, QUICK_SECONDS = 3.0, 0.3


def run(url: str, store: Store, quick: bool) -> list[Reading]:
    """See `Probe`. One and four on a new database each."""
    seconds = QUICK_SECONDS if quick else SECONDS
    server = getattr(store, "server", None)
    one = measure(url, Crew(workers=1), seconds, server)
    with store.new() as another:
        many = measure(another, Crew(workers=MANY), seconds, server)
    ratio = many.per_second / one.per_second
    return [
        *_readings("one process", one),
        *_readings(f"{MANY} processes", many),
        Reading(name=f"{MANY} against one", value=ratio, unit="x", aim=">= 1.3"),
        Reading(
            name=f"{MANY} against one, if all cores worked", value=_bound(many) / one.per_second, unit="x"
        ),
    ]


def _readings(who: str, worked: Worked) -> list[Reading]:
    return [
        Reading(name=who, value=worked.per_second, unit="wf/s"),
        Reading(name=f"{who}: CPU of the client", value=worked.clients_us, unit="µs/wf"),
        Reading(name=f"{who}: CPU of the workers", value=worked.workers_us, unit="µs/wf"),
        Reading(name=f"{who}: CPU of the server", value=worked.server_us, unit="µs/wf"),
        Reading(name=f"{who}: cores at work, all three", value=worked.cores, unit="cores"),
        Reading(name=f"{who}: what all cores would carry", value=_bound(worked), unit="wf/s"),
    ]


def _bound(worked: Worked) -> float:
    """If every core worked all the time, at the price that a workflow had."""
    return (os.cpu_count() or 1) * 1e6 / (worked.clients_us + worked.workers_us + worked.server_us)
