"""The seam between what all database servers share and what one driver does.

Statements are texts of plain SQL in which these marks stand for what differs between servers:

    ?            a parameter, in order
    @instances   a table (any of `tables`), qualified by schema or prefix as the server wants it
    @wanted      the relation of the `Wanted` rows; its columns are called ``wanted.<column>``
    @now         the store's time in microseconds since the epoch: the same everywhere in one statement, and usable as
                 the bound of an index range. (A store opened with ``clock=``, for tests, asks that instead.)
    @newest      the end of a subquery: it sees what is newest, as all that is read does, also where a caller's
                 transaction has an old snapshot
    @reserved    a condition on ``wanted.instance_id`` that is true where `Session.reserve` would have it; only for
                 servers with `Database.one_statement`

Neither ``?`` nor ``@`` nor ``%`` occurs in the texts otherwise. Columns of tables are always written with an alias, and
it is ``FROM @instances AS i``, never the table's own name. The texts are few and constant, so that a driver may keep
what it makes of each.

Values are ``int``, ``str``, ``bytes`` and ``None``, in both directions. A text comes back as it was given, with NUL and
everything else that Python can encode as UTF-8; how it is kept is the driver's business. Comparison and order of texts
are by bytes (code points).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeVar

from durable.backends.sql.server.tables import Kind, Table

R = TypeVar("R")
Row = tuple[Any, ...]
Topics = set[str]
Ended = set[str] | None
"""Ids of instances of which a run ended; ``None``: of any."""
Ring = Callable[[Topics, set[str]], None]
"""Rings for topics that were written here; with the ids of instances of which a run ended."""


class Again(Exception):
    """The server ended the transaction for no fault of it: deadlock, serialisation failure, a lock waited for too long.

    Nothing was written; the whole transaction is to be repeated. Also raised by shared code that has lost a race.
    """


class Culprit(Exception):
    """The server (or the driver) refuses what a statement carries: a key that is there already, a value too large.

    Nothing was written. The batch is halved until the item that brings it about stands alone. The text is one line.
    """


@dataclass(frozen=True, slots=True)
class Wanted:
    """Rows that a statement is joined with. ``columns``: names and kinds, in the order of the values."""

    columns: Mapping[str, Kind]
    rows: Sequence[Sequence[Any]]


@dataclass(frozen=True, slots=True)
class Query:
    """A ``SELECT`` among several. ``each``: it is made for each of these rows (none: it gives nothing)."""

    sql: str
    values: Sequence[Any] = ()
    each: Wanted | None = None


@dataclass(frozen=True, slots=True)
class Write:
    """An `Session.insert` (``columns``: all of the table's), `Session.update` or `Session.delete`, to be done later."""

    what: Literal["insert", "update", "delete"]
    table: Table
    columns: tuple[str, ...]
    rows: Sequence[Sequence[Any]]
    if_absent: bool = False


class Session(Protocol):
    """One transaction on one connection (or, from `Database.read`, statements that each stand alone).

    Every await is limited in time. Whatever cannot be told from success or clean failure is a `BackendError`.
    A call with no rows (``insert``, ``update``, ``delete``, ``wanted``) does nothing and costs nothing.
    How many statements a call makes does not grow with its rows, unless the server's packets are too small for them.
    """

    async def fetch(self, sql: str, *values: Any) -> list[Row]:
        """Rows of a statement."""
        ...

    async def fetch_wanted(self, sql: str, wanted: Wanted, *values: Any) -> list[Row]:
        """Rows of a statement that names ``@wanted`` once. ``values`` are those of its ``?``, in order."""
        ...

    async def fetch_each(self, sql: str, wanted: Wanted, *values: Any) -> list[Row]:
        """Rows of a ``SELECT`` (perhaps with ``ORDER BY`` and ``LIMIT``) that is made for *each* of the wanted rows,
        which it names as ``wanted.<column>``. Each execution is planned as if those were parameters. The rows of one
        wanted row keep their order; that of the wanted rows is not promised.

        (``LATERAL``, or copies of the text joined by ``UNION ALL``.)
        """
        ...

    async def fetch_union(self, queries: Sequence[Query]) -> list[Row]:
        """The rows of all queries, in one statement (``UNION ALL``) and in no promised order.

        They have the same number of columns of the same types; one with ``each`` is like `fetch_each`.
        """
        ...

    async def execute(self, sql: str, *values: Any) -> int:
        """Do a statement; how many rows it matched (also those that it did not change)."""
        ...

    async def insert(
        self,
        table: Table,
        rows: Sequence[Sequence[Any]],
        *,
        columns: Sequence[str] | None = None,
        if_absent: bool = False,
    ) -> int:
        """Insert rows (``columns``: all of the table's, in order) in the order given; how many were inserted.

        A key that is there already is a `Culprit`, or with ``if_absent`` leaves the row that is there.
        """
        ...

    async def update(self, table: Table, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> int:
        """Set these columns of rows by key: each row gives the new values, then the table's key; how many matched."""
        ...

    async def delete(self, table: Table, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> int:
        """Delete the rows with these values in these columns (which lead an index); how many there were."""
        ...

    async def write(self, writes: Sequence[Write], *, last: bool = False) -> list[int]:
        """Do all of these, none of which has to do with a row of another; their counts. In one statement, if the server
        can do that, else one by one (`one_by_one`).

        ``last``: nothing but the commit follows, so it may be part of this; not before the counts of rows that may be
        there already are known.
        """
        ...

    async def reserve(self, keys: Sequence[tuple[int, str]]) -> set[str]:
        """Reserve instances (part, id) that have no row as far as this transaction sees, until it ends.

        Gives the ids that cannot be had now, because another open transaction has reserved or inserted them: their
        items are busy. Waits for nobody. An implementation that cannot tell may give none: then `insert` waits.
        """
        ...

    async def announce(self, topics: Topics) -> None:
        """Tell other processes, as part of this transaction, if the server can do that. Hints; they may be lost."""
        ...


class Database(Protocol):
    """Where sessions come from: a pool of connections to one schema of one server."""

    url: str
    """Without password, for messages."""
    tag_test: str
    """A condition with two ``?``: the JSON text ``i.tags`` has this name with this text as its value."""
    hears: bool
    """Whether `Database.listen` is told anything."""
    group_by_part: bool
    """Whether batches are cut so that a transaction is about one part, as far as their items allow it: for servers that
    keep the parts on different machines."""
    one_statement: bool
    """Whether a ``WITH`` may write, and plain batches are therefore done by one statement (see that module)."""

    async def transact(
        self, work: Callable[[Session], Awaitable[R]], *, reserved: bool = False, lazy: bool = False
    ) -> R:
        """Do the work in one transaction (READ COMMITTED) and commit it.

        If it raises, all is rolled back and the exception passed on (`Again` and `Culprit` among them: repeating is
        the caller's). A connection whose state is not known (cancelled, timed out, broken) is discarded.
        ``reserved``: use the capacity that is kept for the renewal of leases. ``lazy``: it leases, and no more, so the
        commit need not wait for the disk.
        """
        ...

    async def read(self, work: Callable[[Session], Awaitable[R]]) -> R:
        """Do the work without a transaction. It only reads."""
        ...

    async def alone(self, work: Callable[[Session], Awaitable[R]]) -> R:
        """Do the work, which is one statement, as a transaction of its own (READ COMMITTED), committed when it answers.

        Raises like `transact`. Only for servers with ``one_statement``.
        """
        ...

    async def borrow(self, connection: Any, work: Callable[[Session], Awaitable[R]]) -> R:
        """Do the work in the open transaction of a caller's connection: all of it, or nothing (a savepoint).

        Raises ``TypeError`` for what is no connection of this driver, `BackendError` for one that is to another
        database or has no open transaction. Waiting for a lock is limited to 5 s.
        """
        ...

    async def hold(self) -> HeldSession:
        """Open a transaction for an activity, on a connection of its own (not one that others wait for)."""
        ...

    async def migrate(self) -> None:
        """Make or bring up to date the schema; nothing if it is. Safe when two start together."""
        ...

    def announce(self, topics: Topics, ended: Ended) -> None:
        """Tell other processes of what was committed, soon and many at a time; returns at once, and never raises.

        ``ended``: what the topic ``closed`` is about.
        """
        ...

    def listen(self, hear: Callable[[Topics, Ended], None]) -> None:
        """Call this, on the running loop, with what other processes announce. May do nothing."""
        ...

    async def close(self) -> None:
        """Let go of all connections, after what is under way."""
        ...


class HeldSession(Protocol):
    """A transaction that stays open while an activity writes in it."""

    connection: Any
    """The driver's, for the activity."""
    session: Session

    async def commit(self) -> None:
        """Commit, and let go of the connection. `BackendError` if it is gone or was open for too long."""
        ...

    async def rollback(self) -> None:
        """Undo everything, and let go of the connection; harmless afterwards."""
        ...


async def one_by_one(session: Session, writes: Sequence[Write]) -> list[int]:
    """`Session.write` by the other methods, in the order given."""
    counts = []
    for one in writes:
        if one.what == "insert":
            counts.append(await session.insert(one.table, one.rows, if_absent=one.if_absent))
        elif one.what == "update":
            counts.append(await session.update(one.table, one.columns, one.rows))
        else:
            counts.append(await session.delete(one.table, one.columns, one.rows))
    return counts
