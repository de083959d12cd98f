"""The store for MySQL 8 (8.0.19 or later) and MariaDB (10.6 or later), on aiomysql or asyncmy.

What every store on a database server does is in `durable.backends.sql.server`; here is what is these servers' own:

address.py       the URL
failures.py      the servers' errors: which are worth another try, which are an item's fault, what people must do
literals.py      values as SQL
statements.py    the shared layer's plain statements as MySQL's and MariaDB's
indexes.py       which index each of them reads by
driver.py        one connection; the only file that knows the two drivers
pool.py          connections, with capacity that is kept for leases
writing.py       rows that are written
sessions.py      a transaction on a connection (the seam's `Session`)
borrowing.py     transactions of callers and of activities
database.py      all of it (the seam's `Database`)
migrating.py     the schema; migrations/ holds it as SQL
store.py         how it is opened
"""

from durable.backends.mysql.store import open_store

__all__ = ["open_store"]
