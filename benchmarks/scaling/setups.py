"""What is tried. Each line is W1 for some seconds on a new database."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from benchmarks.crew import Crew

PROCESSES, WORKER, DATABASE = "processes", "worker", "database"


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """``what`` differs from the first line of its group and store. ``url``: options of the store; ``settings``: the
    server's.
    """

    group: str
    store: str
    what: str
    crew: Crew
    url: Mapping[str, object] = field(default_factory=dict)
    settings: Mapping[str, str] = field(default_factory=dict)


def setups() -> list[Setup]:
    """All of them, store by store."""
    return [
        *_processes("postgres"),
        *_worker(),
        *_database("postgres"),
        *_processes("mysql"),
        *_polling("mysql"),
        *_database("mysql"),
        *_processes("sqlite", (1, 2, 4), ()),
    ]


def _processes(
    store: str, workers: tuple[int, ...] = (1, 2, 4, 8), two_clients: tuple[int, ...] = (1, 2, 4)
) -> list[Setup]:
    alone = Setup(group=PROCESSES, store=store, what="client and worker in one process", crew=Crew(workers=0))
    both = Setup(
        group=PROCESSES,
        store=store,
        what="client and worker in one process, two of these",
        crew=Crew(workers=0, clients=2),
    )
    return [alone, both] + [
        Setup(
            group=PROCESSES,
            store=store,
            what=f"{clients} client{'s' * (clients > 1)}, {count} worker{'s' * (count > 1)}",
            crew=Crew(workers=count, clients=clients),
        )
        for clients, counts in ((1, workers), (2, two_clients))
        for count in counts
    ]


def _polling(store: str) -> list[Setup]:
    """Where nothing tells a process of another's work, it looks for it; a client and a worker apart wait for that."""
    return [
        Setup(
            group=PROCESSES,
            store=store,
            what=f"1 client, 2 workers, poll={poll:g}",
            crew=Crew(workers=2),
            url={"poll": poll},
        )
        for poll in (0.1, 0.02)
    ]


def _worker() -> list[Setup]:
    """Client and worker in one process on PostgreSQL, 200 in flight, unless the line says another thing."""

    def one(what: str, in_flight: int = 200, **options: object) -> Setup:
        crew = Crew(workers=0, in_flight=in_flight, options=options)
        return Setup(group=WORKER, store="postgres", what=what, crew=crew)

    def pool(size: int) -> Setup:
        crew = Crew(workers=0)
        return Setup(
            group=WORKER, store="postgres", what=f"pool_size={size}", crew=crew, url={"pool_size": size}
        )

    return [
        one("defaults"),
        *(one(f"{count:,} in flight", in_flight=count) for count in (1, 10, 50, 1_000)),
        *(one(f"max_activities={count:,}", max_activities=count) for count in (1, 10, 1_000)),
        *(one(f"max_workflow_tasks={count:,}", max_workflow_tasks=count) for count in (1, 10, 1_000)),
        *(one(f"cache_size={count:,}", cache_size=count) for count in (0, 100)),
        one("lease=2", lease=2.0),
        one("local_activities=False", local_activities=False),
        pool(2),
        pool(30),
    ]


_SETTINGS: dict[str, dict[str, dict[str, str]]] = {
    "postgres": {
        "settings of a new installation": {},
        "commit_delay=200, commit_siblings=3": {"commit_delay": "200", "commit_siblings": "3"},
        "wal_compression=on": {"wal_compression": "on"},
        "synchronous_commit=off (loses what a crash of the server caught)": {"synchronous_commit": "off"},
    },
    "mysql": {
        "settings of a new installation": {},
        "innodb_flush_log_at_trx_commit=2 (loses what a crash of the machine caught)": {
            "innodb_flush_log_at_trx_commit": "2"
        },
    },
}


def _database(store: str) -> list[Setup]:
    crew = Crew(workers=2, clients=1)
    return [
        Setup(group=DATABASE, store=store, what=what, crew=crew, settings=settings)
        for what, settings in _SETTINGS[store].items()
    ]
