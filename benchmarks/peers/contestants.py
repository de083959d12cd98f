"""Who is measured, on which store, and with how many workflows in flight: those with which each did best."""

from __future__ import annotations

from dataclasses import dataclass

WORKLOADS = ("W1", "W2", "W3", "W4", "W5")
ALONE = 1
"""W4: one workflow at a time."""
FAN_OUTS = 4
"""W3: how many fan-outs of 100 at a time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contestant:
    """``program``: its file in ``programs``. ``in_flight``: of W1 and W2; each number is a line of its own.
    W5: the last of them, so many starts at a time.

    ``environment`` and ``packages``: what pip installs, where; for ours ``None``. ``store``: sqlite, postgres, own,
    memory. ``processes``: how many of them work in W1, beside the server of a store that ours uses too.
    """

    name: str
    store: str
    program: str
    in_flight: tuple[int, ...]
    workloads: tuple[str, ...] = WORKLOADS
    environment: str | None = None
    packages: tuple[str, ...] = ()
    processes: int = 1

    @property
    def label(self) -> str:
        """For tables and for ``--peers``."""
        return f"{self.name}/{self.store}"

    def loads(self, workload: str) -> tuple[int, ...]:
        """How many in flight, for a workload."""
        if workload not in self.workloads:
            return ()
        starts = self.in_flight[-1:]
        return {"W3": (FAN_OUTS,), "W4": (ALONE,), "W5": starts}.get(workload, self.in_flight)


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """What its contestants have in common."""

    name: str
    packages: tuple[str, ...]
    stores: dict[str, tuple[int, ...]]
    workloads: tuple[str, ...] = WORKLOADS
    processes: int = 1

    def contestants(self) -> list[Contestant]:
        """One a store."""
        return [
            Contestant(
                name=self.name,
                store=store,
                program=f"peer_{self.name}.py",
                in_flight=in_flight,
                workloads=self.workloads,
                environment=self.name,
                packages=self.packages,
                processes=self.processes,
            )
            for store, in_flight in self.stores.items()
        ]


WITHOUT_SLEEP = WORKLOADS[:4]

OURS = {
    store: Contestant(
        name="durable",
        store=store,
        program="ours.py",
        in_flight=(100,),
        workloads=WITHOUT_SLEEP if store == "memory" else WORKLOADS,
    )
    for store in ("sqlite", "postgres", "memory")
}
OURS_IN_TWO = Contestant(
    name="durable-2",
    store="postgres",
    program="ours_in_two.py",
    in_flight=(100,),
    # W4 is one at a time; of W5, each process would have to know whose workflows sleep where.
    workloads=("W1", "W2", "W3"),
    processes=2,
)
"""Beside the peers that use several processes, and in addition to ours in one."""
BESIDE = {"own": "postgres"}
"""Which store of ours stands beside a peer that brings its own."""

_PEERS = (
    Peer(name="dbos", packages=("dbos",), stores={"sqlite": (10, 25), "postgres": (10, 25)}),
    Peer(
        name="absurd",
        packages=("absurd-sdk", "absurdctl", "psycopg[binary]"),
        stores={"postgres": (100,)},
        processes=5,  # four workers and the client
    ),
    Peer(
        name="restate",
        packages=("restate-sdk", "hypercorn", "uvloop", "aiohttp"),
        stores={"own": (100, 300)},
        processes=3,  # its server, the handlers and the client
    ),
    Peer(
        name="edda",
        packages=("edda-framework", "aiosqlite", "asyncpg"),
        # More starts at once and its SQLite files are locked: the workflows fail.
        stores={"sqlite": (2,), "postgres": (10, 25)},
    ),
    Peer(name="duroxide", packages=("duroxide",), stores={"sqlite": (25, 100), "postgres": (25, 100)}),
    # Its backend has ten threads, and each client that waits takes one: with 25 in flight it comes to a halt.
    Peer(name="durabletask", packages=("durabletask",), stores={"memory": (8,)}, workloads=WITHOUT_SLEEP),
)
PEERS = {one.label: one for peer in _PEERS for one in peer.contestants()}
