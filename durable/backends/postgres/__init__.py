"""The PostgreSQL store (13 or later), on asyncpg. What it does is `durable.backends.sql.server`'s; how is here.

address.py       what a URL says
failures.py      what an error of the server or the driver means
texts.py         the statements of `durable.backends.sql.server` as PostgreSQL's, and texts with NUL
sessions.py      a transaction on a connection
pool.py          connections, lent and taken back
database.py      sessions for the store: in transactions, for looking, for leases
borrowed.py      a caller's connection, and a transaction that an activity writes in
listening.py     LISTEN and NOTIFY
migrating.py     the schema, and what must be right before a store may be used
store.py         how it is opened
migrations/      the schema
"""

from durable.backends.postgres.store import open_store

__all__ = ["open_store"]
